import { resolve } from 'node:path'

import { CliError } from './cli-error.ts'
import { shortChardev } from './options/char-short.ts'
import { checkSocketPath } from './options/chardev-socket.ts'
import type { ChardevSettings, CharUser, Settings } from './settings.ts'
import { hint } from './suggest.ts'

/** A monitor on a character device. */
export interface MonitorPlan {
  /** The character device's. */
  id: string
  /** It speaks QMP. */
  control?: { pretty: boolean }
}

/** Which character devices to open, and who uses which. */
export interface CharPlan {
  /** By id; ids of the command line, and `#n` for those that `-serial` and `-monitor` imply. */
  chardevs: Map<string, ChardevSettings>
  /** What implied devices are called, by id. */
  labels: Map<string, string>
  /** Ids by COM port; undefined where nothing is connected. */
  serials: (string | undefined)[]
  monitors: MonitorPlan[]
  /** Ids by parallel port, of those that there are. */
  parallels: string[]
  /** Ids of those that a `-device`, or a parallel port, names. */
  devices: string[]
}

/**
 * Works out the character devices of a command line, with QEMU's defaults: -nographic puts the
 * first serial port and the monitor on the terminal, as far as they are not placed elsewhere.
 *
 * @throws CliError when a device has too many users, or does not exist
 */
export function planChardevs(settings: Settings): CharPlan {
  const plan: CharPlan = {
    chardevs: new Map(settings.chardevs),
    labels: new Map(),
    serials: [],
    monitors: [],
    parallels: [],
    devices: [],
  }
  for (const [, chardev] of settings.chardevs) checkStdio(plan, chardev)
  const { serials, monitors } = withDefaults(settings)
  const used = new Set<string>()
  const connect = (user: CharUser, label: string): string | undefined => {
    const id = deviceId(plan, user, label)
    if (id !== undefined && used.has(id) && plan.chardevs.get(id)?.mux !== true) {
      throw new CliError(`chardev '${id}' is in use, and not shared by mux=on`, user.at)
    }
    if (id !== undefined) used.add(id)
    return id
  }
  for (const [port, user] of serials.entries()) {
    const id = connect(user, `serial${port}`)
    plan.serials.push(id)
    if (id !== undefined && user.device.startsWith('mon:')) plan.monitors.push({ id })
  }
  for (const [i, user] of monitors.entries()) {
    const id = connect(user, `compat_monitor${i}`)
    if (id === undefined) continue
    plan.monitors.push({ id, ...(user.control === undefined ? {} : { control: user.control }) })
  }
  for (const [i, user] of withParallel(settings).entries()) {
    const id = connect(user, `parallel${i}`)
    if (id === undefined) continue
    plan.parallels.push(id)
    plan.devices.push(id)
  }
  for (const { driver, properties } of settings.devices) {
    const id = properties['chardev']
    if (id === undefined) continue
    connect({ device: `chardev:${id}`, at: `-device ${driver}` }, id)
    plan.devices.push(id)
  }
  if (settings.daemonize) prepareForDaemon(plan)
  if (settings.display === 'curses') refuseStdio(plan)
  return plan
}

/** The terminal belongs to the screen. */
function refuseStdio(plan: CharPlan): void {
  for (const { backend, at } of plan.chardevs.values()) {
    if (backend === 'stdio') throw new CliError("cannot use stdio with '-display curses'", at)
  }
}

/** A daemon has no terminal, and leaves the folder that relative paths begin in. */
function prepareForDaemon(plan: CharPlan): void {
  for (const [id, chardev] of plan.chardevs) {
    if (chardev.backend === 'stdio') {
      throw new CliError('cannot use stdio with -daemonize', chardev.at)
    }
    plan.chardevs.set(id, withAbsolutePath(chardev))
  }
}

function withAbsolutePath(chardev: ChardevSettings): ChardevSettings {
  if (chardev.path !== undefined) return { ...chardev, path: resolve(chardev.path) }
  const { socket } = chardev
  if (socket === undefined) return chardev
  const { address } = socket
  if (address.type === 'fd') {
    throw new CliError("'fd' cannot be used with -daemonize", chardev.at)
  }
  if (address.type !== 'unix' || address.abstract === true) return chardev
  const path = resolve(address.path)
  checkSocketPath(path)
  return { ...chardev, socket: { ...socket, address: { ...address, path } } }
}

function withDefaults(settings: Settings): { serials: CharUser[]; monitors: CharUser[] } {
  const { nographic, defaultDevices, machine } = settings
  const serials = [...settings.serials]
  const monitors = [...settings.monitors]
  if (!defaultDevices) return { serials, monitors }
  if (machine === 'none') {
    if (nographic && monitors.length === 0) monitors.push({ device: 'stdio', at: '-nographic' })
    return { serials, monitors }
  }
  const at = '-nographic'
  if (settings.devices.some(({ driver }) => driver === 'isa-serial')) {
    if (nographic && monitors.length === 0) monitors.push({ device: 'stdio', at })
    return { serials, monitors }
  }
  const hasMonitor = monitors.length > 0 || serials.some((user) => user.device.startsWith('mon:'))
  if (!nographic) {
    // The places QEMU gives them, consoles in a window, do not exist.
    if (serials.length === 0) serials.push({ device: 'null', at: '-serial null' })
    return { serials, monitors }
  }
  if (serials.length === 0) serials.push({ device: hasMonitor ? 'stdio' : 'mon:stdio', at })
  else if (!hasMonitor) monitors.push({ device: 'stdio', at })
  return { serials, monitors }
}

/** A PC has a parallel port, where QEMU shows what is printed in a window. */
function withParallel({ parallels, defaultDevices, devices, machine }: Settings): CharUser[] {
  const isAsked = parallels.length > 0 || devices.some(({ driver }) => driver === 'isa-parallel')
  if (isAsked || !defaultDevices || machine === 'none') return parallels
  return [{ device: 'null', at: '-parallel null' }]
}

/** The id of the device a user names; implied devices come into being here. */
function deviceId(plan: CharPlan, { device, at }: CharUser, label: string): string | undefined {
  const chardev = shortChardev(device, at)
  if (chardev === undefined) {
    if (device === 'none') return undefined
    const id = device.slice('chardev:'.length)
    if (plan.chardevs.has(id)) return id
    const ids = [...plan.chardevs.keys()].filter((other) => !other.startsWith('#'))
    throw new CliError(`chardev '${id}' not found${hint(id, ids)}`, at)
  }
  checkStdio(plan, chardev)
  const id = `#${plan.chardevs.size}`
  plan.chardevs.set(id, chardev)
  plan.labels.set(id, label)
  return id
}

function checkStdio(plan: CharPlan, chardev: ChardevSettings): void {
  if (chardev.backend !== 'stdio') return
  for (const other of plan.chardevs.values()) {
    if (other === chardev || other.backend !== 'stdio') continue
    throw new CliError(
      `cannot use stdio by multiple character devices, ${other.at} has it already ` +
        "(use '-serial mon:stdio' to share it, or '-monitor none')",
      chardev.at,
    )
  }
}
