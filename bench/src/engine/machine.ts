// One side's machine at its shell, and the items that it runs.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import {
  GuestProcess,
  bootOptions,
  guestFiles,
  newerPeerCommand,
  ownCommand,
  peerCommand,
  shellPrompt,
} from '../lib/guest-process.ts'
import type { Item, MachineKind } from './items.ts'
import { clockTrouble, parseRate, parseResult, resultLine, startLine } from './protocol.ts'

/** Who is measured. */
export type Side = 'own' | 'peer' | 'newer'

const commands: Record<Side, string> = {
  own: ownCommand,
  peer: peerCommand,
  newer: newerPeerCommand,
}

const cache = fileURLToPath(new URL('../../../.cache/guests/', import.meta.url))
/** What the set-up made for this benchmark. */
export const engineFiles = {
  suite: `${cache}engine-suite`,
  initrd: `${cache}initrd-engine.cpio`,
  /** Debian's programs; not everybody can make it. */
  disk: `${cache}programs.img`,
} as const

/** An item may take a hundred times what is usual before it counts as hung. */
const itemSeconds = 180
const bootSeconds = 600

/** One measurement of an item. */
export interface Sample {
  /** By the host's clock; for a rate, the time of one unit of it. */
  readonly seconds: number
  readonly sum: string
}

function options(kind: MachineKind): string[] {
  const common = ['-accel', 'tcg', '-cpu', 'max']
  if (kind === 'plain') return [...common, ...bootOptions(512, engineFiles.initrd)]
  if (kind === 'two') return [...common, '-smp', '2', ...bootOptions(512, engineFiles.initrd)]
  const boot = bootOptions(1024, guestFiles.diskInitrd)
  const append = `${boot.pop()} root=/dev/vda`
  // Both sides read the same image, and what they write goes away with them.
  const drive = `file=${engineFiles.disk},if=virtio,format=raw,snapshot=on`
  return [...common, ...boot, append, '-drive', drive]
}

/** The two clocks disagree: by a wrong clock always, by a console that was late now and then. */
export class ClockError extends Error {}

/** A machine that waits for items. */
export class EngineMachine {
  readonly #guest: GuestProcess
  readonly #clocks = { guest: 0, host: 0, lines: 0 }
  /** Seconds from the start of the command to the prompt. */
  readonly bootSeconds: number

  private constructor(guest: GuestProcess, bootSeconds: number) {
    this.#guest = guest
    this.bootSeconds = bootSeconds
  }

  /** Boots a machine of this kind to its prompt. */
  static async boot(side: Side, kind: MachineKind): Promise<EngineMachine> {
    const guest = new GuestProcess(commands[side], options(kind))
    try {
      await guest.expect(shellPrompt, bootSeconds)
      const seconds = (performance.now() - guest.startedAt) / 1000
      if (kind === 'disk') {
        const said = await guest.shell('/suite/run warm', itemSeconds)
        if (said.trim() !== '') throw new Error(`the programs do not run: ${said.trim()}`)
      }
      return new EngineMachine(guest, seconds)
    } catch (error) {
      await guest.stop()
      throw error
    }
  }

  /**
   * Runs an item; the time is the host's, between the arrival of its two lines.
   * @throws Error when it has no result, or a clock that cannot be right
   */
  async run(item: Item): Promise<Sample> {
    this.#guest.type(`${item.command}\n`)
    await this.#line(startLine(item.name))
    const from = performance.now()
    const text = await this.#line(resultLine(item.name))
    const host = (performance.now() - from) / 1000
    await this.#guest.expect(shellPrompt, itemSeconds)
    const { seconds, sum } = parseResult(text)
    const trouble = clockTrouble(seconds, host)
    if (trouble !== undefined) throw new ClockError(trouble)
    this.#clocks.guest += seconds
    this.#clocks.host += host
    this.#clocks.lines++
    if (item.rate === undefined) return { seconds: host, sum }
    return { seconds: parseRate(await this.#guest.shell(item.rate, itemSeconds)), sum }
  }

  /** The line, unless the shell's prompt comes first: then the item has failed. */
  async #line(pattern: RegExp): Promise<string> {
    const either = new RegExp(`${pattern.source}|${shellPrompt.source}`)
    const seen = await this.#guest.expect(either, itemSeconds)
    if (pattern.test(seen)) return seen
    throw new Error(`the item ended early: ${seen.trim().slice(-300)}`)
  }

  /** What the items' clocks add up to, if that cannot be right: many small errors do not even out. */
  clockTrouble(): string | undefined {
    return clockTrouble(this.#clocks.guest, this.#clocks.host, this.#clocks.lines)
  }

  /** Ends the machine. */
  async stop(): Promise<void> {
    await this.#guest.stop()
  }
}

/** The item on the host itself, by its own clock: there is none to compare it with. */
export function runNatively(item: Item): Sample {
  const { stdout, status } = spawnSync(engineFiles.suite, [item.name], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${item.name} ended with ${status} on the host`)
  return parseResult(stdout)
}
