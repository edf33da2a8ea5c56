import type { Chardev } from '../chardev/chardev.ts'
import type { MachineConfig } from '../machine/config.ts'
import type { Accelerator, Settings } from './settings.ts'

/** The machine that a command line describes. */
export function machineConfig(
  settings: Settings,
  serial: readonly (Chardev | undefined)[],
  log: (message: string) => void,
): MachineConfig {
  const { name, uuid, kernel, initrd, append } = settings
  return {
    memory: settings.memoryBytes,
    machine: { type: settings.machine },
    accel: accelChoice(settings.accelerators),
    cpu: settings.cpu,
    serial,
    rebootAction: settings.reboot ? 'reset' : 'shutdown',
    shutdownAction: settings.shutdown ? 'poweroff' : 'pause',
    host: 'worker',
    startPaused: settings.startPaused,
    log,
    logItems: [...settings.logItems],
    ...(name === undefined ? {} : { name }),
    ...(uuid === undefined ? {} : { uuid }),
    ...(kernel === undefined ? {} : { kernel }),
    ...(initrd === undefined ? {} : { initrd }),
    ...(append === undefined ? {} : { append }),
  }
}

/** The software engine works everywhere: behind `tcg` in the list nothing is ever tried. */
function accelChoice(accelerators: readonly Accelerator[]): 'auto' | 'kvm' | 'tcg' {
  const [first, second] = accelerators
  if (first === 'kvm' && second === undefined) return 'kvm'
  return first === 'tcg' ? 'tcg' : 'auto'
}
