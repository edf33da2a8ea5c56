import { VmmError } from '../../errors.ts'
import { isUuid } from '../uuid.ts'

/** Structure 0, the firmware: there is one only where something of it is said. */
export interface SmbiosFirmware {
  type: 0
  vendor?: string
  version?: string
  date?: string
  /** Release, as `major.minor`; each at most 255. */
  release?: string
  /** Whether it is UEFI firmware. */
  uefi?: boolean
}

/** Structure 1, the system. Its UUID is that of the machine. */
export interface SmbiosSystem {
  type: 1
  manufacturer?: string
  product?: string
  version?: string
  serial?: string
  sku?: string
  family?: string
}

/** Structure 2, the board: there is one only where something of it is said. */
export interface SmbiosBoard {
  type: 2
  manufacturer?: string
  product?: string
  version?: string
  serial?: string
  asset?: string
  location?: string
}

/** Structure 3, the chassis. */
export interface SmbiosChassis {
  type: 3
  manufacturer?: string
  version?: string
  serial?: string
  asset?: string
  sku?: string
}

/** Structures 4, one for each socket with a processor. */
export interface SmbiosProcessor {
  type: 4
  /** What the names of the sockets begin with. */
  socketPrefix?: string
  manufacturer?: string
  version?: string
  serial?: string
  asset?: string
  part?: string
  /** MHz, 0 to 65535. */
  maxSpeed?: number
  /** MHz, 0 to 65535. */
  currentSpeed?: number
  /** EDX and EAX of CPUID's leaf 1, where it is not to be the processor's own: 64 bits. */
  processorId?: bigint
}

/** Structure 11, words of the manufacturer's: there is one only where there are some. */
export interface SmbiosStrings {
  type: 11
  values: readonly string[]
}

/** Structures 17, one for each module of memory. */
export interface SmbiosMemory {
  type: 17
  /** What the names of the slots begin with. */
  locatorPrefix?: string
  bank?: string
  manufacturer?: string
  serial?: string
  asset?: string
  part?: string
  /** MT/s, 0 to 65535. */
  speed?: number
}

/** A structure in its whole, with its header and the strings behind it. */
export interface SmbiosBlob {
  bytes: Uint8Array
}

/** What QEMU's `-smbios` says: values of fields that have others by default, or a structure. */
export type SmbiosOption =
  | SmbiosFirmware
  | SmbiosSystem
  | SmbiosBoard
  | SmbiosChassis
  | SmbiosProcessor
  | SmbiosStrings
  | SmbiosMemory
  | SmbiosBlob

/** The kinds of structures of which fields can be given. */
export const SMBIOS_TYPES = [0, 1, 2, 3, 4, 11, 17] as const
export type SmbiosType = (typeof SMBIOS_TYPES)[number]

/** The fields of one kind. */
export type SmbiosFields<T extends SmbiosType> = Omit<Extract<SmbiosOption, { type: T }>, 'type'>

const HEADER_BYTES = 4
const MOST_WORD = 0xffff

/** What is given for one kind; of a field that is given twice the last counts. */
export function fieldsOf<T extends SmbiosType>(
  options: readonly SmbiosOption[],
  type: T,
): Partial<SmbiosFields<T>> & { isGiven: boolean } {
  const given = options.filter((option) => 'type' in option && option.type === type)
  return Object.assign({ isGiven: given.length > 0 }, ...given) as Partial<SmbiosFields<T>> & {
    isGiven: boolean
  }
}

/** The structures that are given in their whole. */
export function blobsOf(options: readonly SmbiosOption[]): Uint8Array[] {
  return options.flatMap((option) => ('bytes' in option ? [option.bytes] : []))
}

/** Throws `E_CONFIG` for what no table can hold. */
export function checkSmbios(options: readonly SmbiosOption[]): void {
  const whole = new Set<number>()
  for (const bytes of blobsOf(options)) {
    checkStructure(bytes)
    whole.add(bytes[0]!)
  }
  for (const option of options) {
    if ('bytes' in option) continue
    const { type } = option
    if (!SMBIOS_TYPES.includes(type)) throw bad(`there are no fields for structures ${type}`)
    if (whole.has(type)) {
      throw bad(`structure ${type} is given in its whole, and fields of it: give one of both`)
    }
    for (const [name, value] of Object.entries(option)) checkField(type, name, value)
  }
}

/** A structure ends with its strings, each with a zero behind it, and one more zero; none are two (DSP0134, 6.1.3). */
function checkStructure(bytes: Uint8Array): void {
  const length = bytes[1] ?? 0
  const end = bytes.length
  if (end < HEADER_BYTES + 2 || length < HEADER_BYTES || length + 2 > end) {
    throw bad(`an SMBIOS structure of ${end} bytes is cut off: its header has ${length} of them`)
  }
  if (bytes[end - 1] !== 0 || bytes[end - 2] !== 0) {
    throw bad(`SMBIOS structure ${bytes[0]} does not end with two zeros, as its strings have to`)
  }
}

function checkField(type: number, name: string, value: unknown): void {
  const what = `field '${name}' of SMBIOS structure ${type}`
  const texts = Array.isArray(value) ? value : [value]
  if (texts.some((text) => typeof text === 'string' && text.includes('\0'))) {
    throw bad(`${what} has a zero byte in it`)
  }
  if (name === 'release' && !/^\d+\.\d+$/.test(`${value as string}`)) {
    throw bad(`${what} is '${value}': major and minor number are expected, as in 1.2`)
  }
  const numbers = name === 'release' ? `${value as string}`.split('.').map(Number) : [value]
  const most = name === 'release' ? 0xff : MOST_WORD
  for (const number of numbers) {
    if (typeof number !== 'number') continue
    if (Number.isInteger(number) && number >= 0 && number <= most) continue
    throw bad(`${what} is ${value}; it can be 0 to ${most}`)
  }
}

/** The UUID of a `-smbios type=1,uuid=`. Throws `E_CONFIG`. */
export function checkUuid(text: string): string {
  if (isUuid(text)) return text.toLowerCase()
  throw bad(`'${text}' is not a UUID such as 123e4567-e89b-12d3-a456-426614174000`)
}

function bad(message: string): VmmError {
  return new VmmError('E_CONFIG', message)
}
