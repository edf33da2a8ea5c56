import { uuidBytes } from '../uuid.ts'
import { MANUFACTURER } from './config.ts'
import type { SmbiosConfig } from './config.ts'
import { memoryStructures } from './memory.ts'
import { fieldsOf } from './options.ts'
import { processorStructures } from './processors.ts'
import { Structure } from './structure.ts'

/** Firmware that serves the same boots carries this date; guests compare its year with cut-offs. */
const FIRMWARE_DATE = '04/01/2014'
const FIRMWARE_SEGMENT = 0xe800
const HANDLE_SYSTEM = 0x0100
const HANDLE_BOARD = 0x0200
const HANDLE_CHASSIS = 0x0300
const HANDLE_STRINGS = 0x0e00
const HANDLE_BOOT = 0x2000
const HANDLE_END = 0x7f00

/** The structures of a machine, in QEMU's order. */
export function describe(config: SmbiosConfig, describesFirmware: boolean): Structure[] {
  return [
    ...firmware(config, describesFirmware),
    system(config),
    ...board(config),
    chassis(config),
    ...processorStructures(config),
    ...strings(config),
    ...memoryStructures(config),
    new Structure(32, HANDLE_BOOT, 11),
    new Structure(127, HANDLE_END, 4),
  ]
}

function firmware({ smbios = [], machine }: SmbiosConfig, isDescribed: boolean): Structure[] {
  const { isGiven, vendor, version, date, release, uefi } = fieldsOf(smbios, 0)
  if (isGiven) {
    const [major = 0, minor = 0] = release?.split('.').map(Number) ?? []
    return [
      firmwareStructure([vendor, version, date])
        .u16(6, FIRMWARE_SEGMENT)
        // Targeted content distribution, a virtual machine, and perhaps UEFI.
        .u8(19, 0x14 | (uefi === true ? 0x08 : 0))
        .u8(20, major)
        .u8(21, minor),
    ]
  }
  // Where no firmware runs that describes itself.
  const texts = ['qemu-vmm', machine, FIRMWARE_DATE] as const
  return isDescribed ? [firmwareStructure(texts).u16(6, 0xf000).u8(19, 0x1c).u8(20, 1)] : []
}

function firmwareStructure([vendor, version, date]: readonly (string | undefined)[]): Structure {
  return (
    new Structure(0, 0, 24)
      .string(4, vendor)
      .string(5, version)
      .string(8, date)
      // Characteristics are not supported; there is no embedded controller.
      .u64(10, 0x08)
      .u8(22, 0xff)
      .u8(23, 0xff)
  )
}

function system({ smbios = [], machine, product, uuid }: SmbiosConfig): Structure {
  const given = fieldsOf(smbios, 1)
  const structure = new Structure(1, HANDLE_SYSTEM, 27)
    .string(4, given.manufacturer ?? MANUFACTURER)
    .string(5, given.product ?? product)
    .string(6, given.version ?? machine)
    .string(7, given.serial)
    // Woken by the power switch.
    .u8(24, 6)
    .string(25, given.sku)
    .string(26, given.family)
  structure.bytes.set(uuidBytes(uuid), 8)
  return structure
}

function board({ smbios = [], machine, product }: SmbiosConfig): Structure[] {
  const given = fieldsOf(smbios, 2)
  if (!given.isGiven) return []
  return [
    new Structure(2, HANDLE_BOARD, 15)
      .string(4, given.manufacturer ?? MANUFACTURER)
      .string(5, given.product ?? product)
      .string(6, given.version ?? machine)
      .string(7, given.serial)
      .string(8, given.asset)
      // A hosting board, a motherboard.
      .u8(9, 0x01)
      .string(10, given.location)
      .u16(11, HANDLE_CHASSIS)
      .u8(13, 0x0a),
  ]
}

function chassis({ smbios = [], machine }: SmbiosConfig): Structure {
  const given = fieldsOf(smbios, 3)
  return new Structure(3, HANDLE_CHASSIS, 22)
    .string(4, given.manufacturer ?? MANUFACTURER)
    .u8(5, 1)
    .string(6, given.version ?? machine)
    .string(7, given.serial)
    .string(8, given.asset)
    .u8(9, 3)
    .u8(10, 3)
    .u8(11, 3)
    .u8(12, 2)
    .string(21, given.sku)
}

function strings({ smbios = [] }: SmbiosConfig): Structure[] {
  const values = smbios.flatMap((option) =>
    'type' in option && option.type === 11 ? option.values : [],
  )
  if (values.length === 0) return []
  return [new Structure(11, HANDLE_STRINGS, 5).u8(4, values.length).addStrings(values)]
}
