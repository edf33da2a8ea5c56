import { XmlError } from '../../xml/index.ts'
import type { Alias, DeviceAddress, DomainDefinition } from '../generated/model.ts'
import type { EmulatorFeatures } from './features.ts'

/** What a start is told besides the definition. */
export interface ArgvOptions {
  /**
   * Where the emulator listens for QMP. Without it nobody has a monitor: the guest runs at once, and what it takes a
   * daemon for is refused.
   */
  qmpSocket?: string
  /** The domain's log, to which whoever starts the emulator sends its standard error. */
  logFile?: string
  /** Folder of this run: sockets of serial ports, consoles and channels. */
  stateDir: string
  /** What the emulator has (default: by its name). */
  features?: EmulatorFeatures
  /** Whoever starts it keeps the limits of processors, memory and disks, and has threads where they may run, which no command line has (default: refuse them). */
  limits?: boolean
  /** The time, in milliseconds since 1970 (default: the host's). */
  now?: () => number
  /** Names of networks that are the user-mode network (default: `default`). */
  userNetworks?: ReadonlySet<string>
}

/** A character device that the daemon connects to. */
export interface Endpoint {
  /** `serial0` */
  alias: string
  /** The socket at which the emulator listens. */
  path: string
}

/** How a domain is started. */
export interface DomainCommand {
  program: string
  args: string[]
  /** Variables that the definition wants in the emulator's environment. */
  env: Record<string, string>
  /** Sockets of serial ports, consoles and channels. */
  endpoints: Endpoint[]
  /** Files that are copied from another when they are not there: variables of firmware. */
  copies: { from: string; to: string }[]
  /** What the emulator lacks although the definition has it, and no guest depends on. */
  warnings: string[]
}

/** A command line while it is put together. */
export class Command {
  readonly def: DomainDefinition
  readonly options: ArgvOptions
  readonly features: EmulatorFeatures
  readonly result: DomainCommand
  /** What was added by keys, before it became text: a running emulator is told the same in JSON. */
  readonly records: { option: string; first: string; keys: Keys }[] = []

  constructor(
    def: DomainDefinition,
    options: ArgvOptions,
    features: EmulatorFeatures,
    program: string,
  ) {
    this.def = def
    this.options = options
    this.features = features
    this.result = { program, args: [], env: {}, endpoints: [], copies: [], warnings: [] }
  }

  add(...args: string[]): void {
    this.result.args.push(...args)
  }

  /** Adds an option of keys and values; an undefined value leaves its key out. */
  addKeys(option: string, first: string, keys: Keys = {}): void {
    this.records.push({ option, first, keys })
    this.add(option, formatKeys(first, keys))
  }

  has(driver: string): boolean {
    return this.features.devices?.has(driver) ?? true
  }

  /** Adds a device, with its name and its place. */
  addDevice(driver: string, path: string, device: Placed, keys: Keys = {}): void {
    if (!this.has(driver)) {
      throw notYet(path, `${this.result.program} has no device "${driver}"`)
    }
    this.addKeys('-device', driver, {
      ...keys,
      id: device.alias?.name,
      ...this.placeOf(device.address),
    })
  }

  /** `bus` and `addr` of a PCI address; others say their place in their own way. */
  placeOf(address: DeviceAddress | undefined): Keys {
    if (address?.type !== 'pci') return {}
    const { bus = 0, slot = 0, function: fn = 0, multifunction } = address
    const controller = this.def.devices?.controllers?.find(
      ({ type, index }) => type === 'pci' && index === bus,
    )
    const addr = fn === 0 ? `0x${slot.toString(16)}` : `0x${slot.toString(16)}.0x${fn}`
    return {
      bus: controller?.alias?.name ?? `pci.${bus}`,
      addr,
      multifunction: multifunction === undefined ? undefined : multifunction ? 'on' : 'off',
    }
  }
}

interface Placed {
  alias?: Alias
  address?: DeviceAddress
}

export type Keys = Readonly<Record<string, string | number | undefined>>

/** `first,key=value,…`; a comma in a value is written twice. */
export function formatKeys(first: string, keys: Keys): string {
  const pairs = Object.entries(keys).flatMap(([key, value]) =>
    value === undefined ? [] : `${key}=${String(value).replaceAll(',', ',,')}`,
  )
  return [first, ...pairs].filter((part) => part !== '').join(',')
}

export const onOff = (value: boolean | undefined): string | undefined =>
  value === undefined ? undefined : value ? 'on' : 'off'

/** Something that can be defined, but not started. */
export function notYet(path: string, why: string): XmlError {
  return new XmlError(`unsupported: ${path}: ${why}`, {}, 'E_CONFIG_UNSUPPORTED')
}

/** Refuses what of a part of a definition is not known to the code that starts it. */
export function only(model: object | undefined, path: string, known: readonly string[]): void {
  for (const [key, value] of Object.entries(model ?? {})) {
    const empty = value === undefined || (Array.isArray(value) && value.length === 0)
    if (empty || known.includes(key)) continue
    throw notYet(`${path}, ${key}`, 'it cannot be started with this yet; remove it')
  }
}
