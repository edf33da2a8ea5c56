// A CD that firmware boots: ECMA-119 with files in its root, and the boot catalog of El Torito.
import { Buffer } from 'node:buffer'
import { Failure } from '../lib/run.mjs'

const sectorBytes = 2048
/** What a boot catalog counts in. */
const virtualSectorBytes = 512
/** Descriptors begin here. */
const descriptorsAt = 16
const catalogAt = 19
const pathTablesAt = 20
const rootAt = 22
const filesAt = 23
/** Behind the last file, for those who read ahead. */
const paddingSectors = 150
/** A record of a directory without the name. */
const recordBytes = 33
const efiPlatform = 0xef
/** What cdboot of GRUB, and isolinux, find out about themselves: El Torito's "boot information table". */
const infoAt = 8
const infoChecksumFrom = 64

/**
 * @typedef {object} Boot
 * @property {Buffer} bios a program that a BIOS loads, with a place for a boot information table
 * @property {Buffer} efi a FAT file system for UEFI firmware
 */

/**
 * The bytes of the CD.
 * @param {string} label up to 32 capital letters, digits and underlines
 * @param {readonly {name: string, data: Buffer}[]} files names have up to 8 letters, and 3 behind a dot
 * @param {Boot} boot
 */
export function bootableCd(label, files, { bios, efi }) {
  let next = filesAt
  /** @param {Buffer} data */
  const place = (data) => {
    const at = next
    next += Math.ceil(data.length / sectorBytes)
    return { at, data }
  }
  const program = place(Buffer.from(bios))
  const system = place(efi)
  const placed = files.map(({ name, data }) => ({ name: isoName(name), ...place(data) }))
  placed.sort((a, b) => (a.name < b.name ? -1 : 1))
  next += paddingSectors
  const disk = Buffer.alloc(next * sectorBytes)
  /** @param {number} at */
  const sector = (at) => disk.subarray(at * sectorBytes, (at + 1) * sectorBytes)
  primaryDescriptor(sector(descriptorsAt), label, next)
  bootDescriptor(sector(descriptorsAt + 1))
  standard(sector(descriptorsAt + 2), 255)
  catalog(sector(catalogAt), program.at, system)
  pathTable(sector(pathTablesAt), false)
  pathTable(sector(pathTablesAt + 1), true)
  rootDirectory(sector(rootAt), placed)
  bootInformation(program.data, program.at)
  for (const { at, data } of [program, system, ...placed]) data.copy(disk, at * sectorBytes)
  return disk
}

/** @param {string} name */
function isoName(name) {
  const upper = name.toUpperCase()
  if (!/^[A-Z0-9_]{1,8}(\.[A-Z0-9_]{1,3})?$/.test(upper)) {
    throw new Failure(`a CD cannot have a file named ${name}`)
  }
  return `${upper}${upper.includes('.') ? '' : '.'};1`
}

/** The beginning of a volume descriptor (ECMA-119, 8.1). @param {Buffer} out @param {number} kind */
function standard(out, kind) {
  out[0] = kind
  out.write('CD001', 1, 'latin1')
  out[6] = 1
}

/** ECMA-119, 8.4. @param {Buffer} out @param {string} label @param {number} sectors */
function primaryDescriptor(out, label, sectors) {
  standard(out, 1)
  out.fill(' ', 8, 72)
  out.write(label, 40, 'latin1')
  both32(out, 80, sectors)
  both16(out, 120, 1)
  both16(out, 124, 1)
  both16(out, 128, sectorBytes)
  both32(out, 132, 10)
  out.writeUInt32LE(pathTablesAt, 140)
  out.writeUInt32BE(pathTablesAt + 1, 148)
  record(out, 156, '\0', rootAt, sectorBytes, true)
  out.fill(' ', 190, 813)
  for (const at of [813, 830, 847, 864]) out.write('0'.repeat(16), at, 'latin1')
  out[881] = 1
}

/** El Torito, figure 7. @param {Buffer} out */
function bootDescriptor(out) {
  standard(out, 0)
  out.write('EL TORITO SPECIFICATION', 7, 'latin1')
  out.writeUInt32LE(catalogAt, 71)
}

/** El Torito, figures 2 to 5. @param {Buffer} out @param {number} bios @param {{at: number, data: Buffer}} efi */
function catalog(out, bios, efi) {
  out[0] = 1
  out.writeUInt16LE(0xaa55, 30)
  let sum = 0
  for (let at = 0; at < 32; at += 2) sum += out.readUInt16LE(at)
  out.writeUInt16LE(-sum & 0xffff, 28)
  // What a BIOS loads by itself is the first sector: that loads the rest.
  entry(out, 32, bios, sectorBytes / virtualSectorBytes)
  out[64] = 0x91
  out[65] = efiPlatform
  out.writeUInt16LE(1, 66)
  entry(out, 96, efi.at, efi.data.length / virtualSectorBytes)
}

/** @param {Buffer} out @param {number} offset @param {number} at @param {number} count of virtual sectors */
function entry(out, offset, at, count) {
  out[offset] = 0x88
  out.writeUInt16LE(count, offset + 6)
  out.writeUInt32LE(at, offset + 8)
}

/** With the root alone (ECMA-119, 9.4). @param {Buffer} out @param {boolean} big whether bytes go from the highest */
function pathTable(out, big) {
  out[0] = 1
  if (big) out.writeUInt32BE(rootAt, 2)
  else out.writeUInt32LE(rootAt, 2)
  out.writeUInt16LE(big ? 0x100 : 1, 6)
}

/** @param {Buffer} out @param {readonly {name: string, at: number, data: Buffer}[]} files */
function rootDirectory(out, files) {
  let offset = record(out, 0, '\0', rootAt, sectorBytes, true)
  offset = record(out, offset, '\u0001', rootAt, sectorBytes, true)
  for (const { name, at, data } of files) {
    if (offset + recordBytes + name.length >= sectorBytes)
      throw new Failure('too many files on a CD')
    offset = record(out, offset, name, at, data.length, false)
  }
}

/**
 * ECMA-119, 9.1. Returns the offset behind it.
 * @param {Buffer} out @param {number} offset @param {string} name
 * @param {number} at @param {number} bytes @param {boolean} folder
 */
function record(out, offset, name, at, bytes, folder) {
  const length = (recordBytes + name.length + 1) & ~1
  out[offset] = length
  both32(out, offset + 2, at)
  both32(out, offset + 10, bytes)
  // The first day of 2000: what is made twice is the same.
  out.set([100, 1, 1, 0, 0, 0, 0], offset + 18)
  out[offset + 25] = folder ? 2 : 0
  both16(out, offset + 28, 1)
  out[offset + 32] = name.length
  out.write(name, offset + recordBytes, 'latin1')
  return offset + length
}

/** @param {Buffer} program @param {number} at */
function bootInformation(program, at) {
  let sum = 0
  for (let word = infoChecksumFrom; word < program.length; word += 4) {
    let value = 0
    for (let i = 3; i >= 0; i--) value = value * 256 + (program[word + i] ?? 0)
    sum = (sum + value) >>> 0
  }
  for (const [i, value] of [descriptorsAt, at, program.length, sum].entries()) {
    program.writeUInt32LE(value, infoAt + 4 * i)
  }
}

/** @param {Buffer} out @param {number} at @param {number} value */
function both32(out, at, value) {
  out.writeUInt32LE(value, at)
  out.writeUInt32BE(value, at + 4)
}

/** @param {Buffer} out @param {number} at @param {number} value */
function both16(out, at, value) {
  out.writeUInt16LE(value, at)
  out.writeUInt16BE(value, at + 2)
}
