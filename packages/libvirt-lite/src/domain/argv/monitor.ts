import { pluggedVcpus } from '../vcpus.ts'
import { notYet } from './command.ts'
import type { Command } from './command.ts'

// Who sees to a domain while it runs: a daemon with a monitor, or nobody.

/** A monitor, for a daemon that decides what becomes of a guest that turns its machine off. */
export function addMonitor(command: Command, path: string): void {
  const id = 'charmonitor'
  command.addKeys('-chardev', 'socket', { id, path, server: 'on', wait: 'off' })
  command.addKeys('-mon', '', { chardev: id, id: 'monitor', mode: 'control' })
  command.add('-no-shutdown')
}

/**
 * Has the emulator do by itself what a daemon would, as far as it can.
 * @throws XmlError (67, CONFIG_UNSUPPORTED) for the rest
 */
export function addAlone(command: Command): void {
  const { def } = command
  const { onPoweroff = 'destroy', onReboot = 'restart', onCrash = 'destroy' } = def
  if (onPoweroff === 'preserve') command.add('-no-shutdown')
  else if (onPoweroff !== 'destroy') throw alone('/domain/on_poweroff', onPoweroff)
  if (onReboot !== 'restart' && onReboot !== 'destroy') throw alone('/domain/on_reboot', onReboot)
  if (onCrash === 'preserve') command.add('-action', 'panic=pause')
  else if (onCrash !== 'destroy') throw alone('/domain/on_crash', onCrash)
  if (def.clock?.offset === 'variable') throw alone('/domain/clock/@offset', 'variable')
  const memoryKib = def.memory?.value ?? 0
  if ((def.currentMemory?.value ?? memoryKib) < memoryKib) {
    command.result.warnings.push(
      '/domain/currentMemory: the guest has all of its memory until its balloon is told otherwise',
    )
  }
  const [late] = pluggedVcpus(def)
  if (late !== undefined) {
    throw alone(`/domain/vcpus/vcpu[${late.id + 1}]/@hotpluggable`, 'yes')
  }
  for (const [index, { link }] of (def.devices?.interfaces ?? []).entries()) {
    if (link?.state === 'down') {
      throw alone(`/domain/devices/interface[${index + 1}]/link/@state`, 'down')
    }
  }
}

const alone = (path: string, value: string): Error =>
  notYet(
    path,
    `"${value}" needs a daemon that sees to the domain while it runs; change or remove it`,
  )
