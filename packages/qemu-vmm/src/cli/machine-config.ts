import type { DeviceOption } from '../devices/device-type.ts'
import type { MachineConfig, MachineType } from '../machine/config.ts'
import { isMemoryBackend } from '../objects/config.ts'
import type { MemoryBackendConfig } from '../objects/config.ts'
import { CliError } from './cli-error.ts'
import type { CharWiring } from './char-open.ts'
import { videoDevices } from './default-devices.ts'
import type { Accelerator, Settings } from './settings.ts'

/** What QEMU assumes. */
const DEFAULT_MEMORY = 128 << 20
/** What QEMU calls the memory of a machine without a backend of its own. */
const DEFAULT_BACKEND = 'pc.ram'

/** The machine that a command line describes. */
export function machineConfig(
  settings: Settings,
  chardevs: Pick<CharWiring, 'serials' | 'devices' | 'parallels'>,
  log: (message: string) => void,
): MachineConfig {
  const { name, uuid, bios, kernel, initrd, append, machineOptions: options } = settings
  return {
    ...guestMemory(settings),
    machine: {
      type: machineType(settings),
      options: { ...options, graphics: hasScreen(settings) },
    },
    flash: settings.flash,
    firmwareFolders: settings.firmwareFolders,
    boot: settings.boot,
    optionRoms: settings.optionRoms,
    fwCfg: settings.fwCfg,
    acpiTables: settings.acpiTables,
    smbios: settings.smbios,
    ...accelerator(settings),
    cpu: settings.cpu,
    drives: settings.drives.map((drive) =>
      settings.snapshot ? { ...drive, snapshot: true } : drive,
    ),
    plug: [
      ...videoDevices(settings),
      ...settings.nics,
      ...settings.devices,
      ...chardevs.parallels.map((chardev) => ({
        driver: 'isa-parallel',
        properties: { chardev },
      })),
      ...settings.driveDevices,
    ].map((option) => withGlobals(settings, option)),
    cpus: settings.smp,
    serial: chardevs.serials,
    onlyConnectedSerial: true,
    chardevs: chardevs.devices,
    netdevs: settings.netdevs,
    rebootAction: settings.reboot ? 'reset' : 'shutdown',
    shutdownAction: settings.shutdown ? 'poweroff' : 'pause',
    panicAction: settings.panicAction,
    host: 'worker',
    startPaused: settings.startPaused,
    log,
    logItems: [...settings.logItems],
    ...(name === undefined ? {} : { name }),
    ...(uuid === undefined ? {} : { uuid }),
    ...(bios === undefined ? {} : { bios }),
    ...(kernel === undefined ? {} : { kernel }),
    ...(initrd === undefined ? {} : { initrd }),
    ...(append === undefined ? {} : { append }),
  }
}

/** The machine `none` is not made from a configuration. */
function machineType({ machine }: Settings): MachineType {
  if (machine !== 'none') return machine
  throw new CliError("machine 'none' cannot be run")
}

/** Properties that an option does not give itself; of several defaults the last one counts. */
function withGlobals({ globals }: Settings, option: DeviceOption): DeviceOption {
  const own = globals.filter(({ driver }) => driver === option.driver)
  if (own.length === 0) return option
  const defaults = Object.fromEntries(own.map(({ property, value }) => [property, value]))
  return { ...option, properties: { ...defaults, ...option.properties } }
}

/** -nographic takes the screen away, -display none only leaves it unseen. */
function hasScreen({ machineOptions, nographic }: Settings): boolean {
  return machineOptions.graphics ?? !nographic
}

/** What `-m`, `-object`, `-machine memory-backend=`, `-mem-path` and `-mem-prealloc` add up to. */
function guestMemory(
  settings: Settings,
): Pick<MachineConfig, 'memory' | 'objects' | 'memoryBackend'> {
  const { memoryBytes, objects, memoryBackend, memPath, memPrealloc: prealloc } = settings
  const memory = memoryBytes ?? DEFAULT_MEMORY
  if (memoryBackend !== undefined) {
    const backend = objects.filter(isMemoryBackend).find(({ id }) => id === memoryBackend)
    return { memory: memoryBytes ?? backend?.size ?? DEFAULT_MEMORY, objects, memoryBackend }
  }
  if (memPath === undefined && !prealloc) return { memory, objects }
  const id = DEFAULT_BACKEND
  const backend: MemoryBackendConfig =
    memPath === undefined
      ? { type: 'memory-backend-ram', id, size: memory, prealloc }
      : { type: 'memory-backend-file', id, size: memory, prealloc, memPath }
  return { memory, objects: [...objects, backend], memoryBackend: id }
}

/** Which engine, and what is wished of the software one. */
export function accelerator({ accelerators, tcg }: Settings): Pick<MachineConfig, 'accel' | 'tcg'> {
  const accel = accelChoice(accelerators)
  const wished = Object.keys(tcg).length > 0
  if (wished && accel === 'kvm') throw new CliError("-perfmap needs '-accel tcg'")
  return wished ? { accel, tcg } : { accel }
}

/** The software engine works everywhere: behind `tcg` in the list nothing is ever tried. */
function accelChoice(
  accelerators: readonly Accelerator[],
): Exclude<MachineConfig['accel'], undefined> {
  const [first, second] = accelerators
  if (first === undefined || first === 'tcg') return first ?? 'auto'
  return second === undefined ? 'kvm' : 'kvm:tcg'
}
