import { assignAliases } from './aliases.ts'
import type { CharacterSource, DomainDefinition } from './generated/model.ts'

/** What a running domain has besides its definition. */
export interface LiveState {
  /** The number of the running domain. */
  id: number
  /** Terminals (`/dev/pts/3`) and sockets by the name of the character device: `charserial0`. */
  terminals?: ReadonlyMap<string, string>
  /** Aliases of channels at whose other end the guest listens. */
  connected?: ReadonlySet<string>
  /** Ports of screens that had `autoport`, in their order. */
  graphicsPorts?: readonly number[]
  /** KiB that the guest has now, when a balloon has changed it. */
  currentMemoryKib?: number
}

/** A definition as it is while the domain runs: with the names, numbers and paths of this run. */
export function liveDefinition(def: DomainDefinition, state: LiveState): DomainDefinition {
  const live = structuredClone(def)
  live.id = state.id
  assignAliases(live)
  if (state.currentMemoryKib !== undefined && live.currentMemory !== undefined) {
    live.currentMemory.value = state.currentMemoryKib
  }
  const { devices = {} } = live
  numberSources(live)
  forgetFormats(live)
  for (const port of [...(devices.serials ?? []), ...(devices.parallels ?? [])]) {
    setTty(port, state)
  }
  for (const console of devices.consoles ?? []) {
    const tty = setTty(console, state)
    if (tty !== undefined && console.target?.type === 'serial') console.tty = tty
  }
  for (const channel of devices.channels ?? []) {
    setTty(channel, state)
    const alias = channel.alias?.name ?? ''
    const path = state.terminals?.get(`char${alias}`)
    if (channel.type === 'unix' && path !== undefined) channel.sources ??= [{ mode: 'bind', path }]
    if (channel.target?.type === 'virtio') {
      channel.target.state = state.connected?.has(alias) ? 'connected' : 'disconnected'
    }
  }
  for (const [index, screen] of (devices.graphics ?? []).entries()) {
    const port = state.graphicsPorts?.[index]
    if (port !== undefined) screen.port = port
    const [listen] = screen.listens ?? []
    if (listen?.type !== 'address' || listen.address !== undefined) continue
    listen.address = '127.0.0.1'
    screen.listen = '127.0.0.1'
  }
  return live
}

interface Character {
  type?: string
  alias?: { name: string }
  sources?: CharacterSource[]
}

/** A pty shows its terminal; a socket that stands in for one is nothing that a client could open. */
function setTty(device: Character, { terminals }: LiveState): string | undefined {
  const path = terminals?.get(`char${device.alias?.name ?? ''}`)
  if (device.type !== 'pty' || !path?.startsWith('/dev/')) return undefined
  device.sources = [{ path }]
  return path
}

/**
 * Images are numbered from the last disk on when a domain starts, and those that come later go on from there. A chain that
 * nobody described ends with its first image.
 */
export function numberSources({ devices }: DomainDefinition): void {
  const disks = devices?.disks ?? []
  const numbers = disks.flatMap(({ source }) => source?.index ?? [])
  const isStart = numbers.length === 0
  let next = Math.max(0, ...numbers) + 1
  for (const disk of disks.toReversed()) {
    if (disk.source === undefined) {
      if (isStart) next++
      continue
    }
    disk.source.index ??= next++
    disk.backingStore ??= {}
  }
}

/** The format of a medium that is not there is not known. */
function forgetFormats({ devices }: DomainDefinition): void {
  for (const { source, driver } of devices?.disks ?? []) {
    if (source === undefined && driver?.type === 'raw') delete driver.type
  }
}
