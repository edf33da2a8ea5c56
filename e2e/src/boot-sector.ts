// Boot sectors and option ROMs of our own, for firmware to run.
import { Assembler, Cond, Reg } from 'kvm-core/testing'

export const sectorBytes = 512
const loadAddress = 0x7c00
/** Where the boot sector reads the next sector to. */
const bufferAddress = 0x7e00
const driveAt = 0x600
const packetAt = 0x610
const signature = 0xaa55

/** INT 13h functions of drives beyond what cylinders can say. */
const readSectors = 0x42
const writeSectors = 0x43

/**
 * A disk whose boot sector prints `text`, then the text in the sector behind it, then copies that to
 * the third sector and switches the machine off. It does so through the BIOS alone.
 */
export function bootDisk(text: string, nextSector: string, sectors = 2048): Uint8Array {
  const disk = new Uint8Array(sectors * sectorBytes)
  disk.set(bootSector(text))
  disk.set(Buffer.from(`${nextSector}\0`), sectorBytes)
  return disk
}

/**
 * A program for the network to boot, of `bytes` bytes: it prints `text` and switches the machine off. The rest
 * is there to be carried.
 */
export function networkProgram(text: string, bytes: number): Uint8Array {
  const program = Uint8Array.from({ length: bytes }, (_, i) => (i * 31) & 0xff)
  program.set(bootSector(text, () => {}))
  return program
}

const floppySectors = 2880
const sectorsOfTrack = 18
/** INT 13h functions of drives with cylinders. */
const readCylinder = 0x02
const writeCylinder = 0x03
const formatTrack = 0x05
const idsAddress = 0x8000
/** Where the floppy's boot sector writes to, and the track that it formats. */
export const floppyTarget = { track: 40, head: 1, sector: 3 } as const
export const formattedTrack = 41

/** Byte of a sector of a 1.44 MB disk. */
export function floppyOffset(track: number, head: number, sector: number): number {
  return ((track * 2 + head) * sectorsOfTrack + sector - 1) * sectorBytes
}

/**
 * The same for a floppy disk, by cylinders: the text in the second sector is written to
 * `floppyTarget`, and `formattedTrack` is formatted at its first head.
 */
export function floppyDisk(text: string, nextSector: string): Uint8Array {
  const disk = new Uint8Array(floppySectors * sectorBytes).fill(0x2e)
  disk.set(bootSector(text, onFloppy))
  disk.set(Buffer.from(`${nextSector}\0`), sectorBytes)
  const ids = Array.from({ length: sectorsOfTrack }, (_, i) => [formattedTrack, 0, i + 1, 2])
  disk.set(ids.flat(), 2 * sectorBytes)
  return disk
}

function onFloppy(code: Assembler): void {
  const { track, head, sector } = floppyTarget
  byCylinder(code, readCylinder, idsAddress, [0, 0, 3])
  byCylinder(code, formatTrack, idsAddress, [formattedTrack, 0, 1], sectorsOfTrack)
  byCylinder(code, readCylinder, bufferAddress, [0, 0, 2])
  code.movImm(Reg.si, bufferAddress).call('print')
  byCylinder(code, writeCylinder, bufferAddress, [track, head, sector])
}

function byCylinder(
  code: Assembler,
  what: number,
  address: number,
  [track, head, sector]: readonly [number, number, number],
  count: number = 1,
): void {
  code.movImm(Reg.bx, address).movImm(Reg.cx, (track << 8) | sector)
  // mov dl, [drive]
  code
    .movImm(Reg.dx, head << 8)
    .db(0x8a, 0x16)
    .value(driveAt, 2)
  code
    .movImm(Reg.ax, (what << 8) | count)
    .int(0x13)
    .jcc(Cond.b, 'failed')
}

function onDisk(code: Assembler): void {
  transfer(code, readSectors, 1)
  code.movImm(Reg.si, bufferAddress).call('print')
  transfer(code, writeSectors, 2)
}

function bootSector(text: string, work: (code: Assembler) => void = onDisk): Uint8Array {
  const code = new Assembler(16, loadAddress)
  // xor ax, ax; mov ds, es and ss, ax; mov sp, 0x7c00; mov [drive], dl
  code.cli().db(0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0).movImm(Reg.sp, loadAddress)
  code.sti().db(0x88, 0x16).value(driveAt, 2)
  code.movLabel(Reg.si, 'text').call('print')
  work(code)
  code.movLabel(Reg.si, 'done').call('print')
  // SeaBIOS sends the last characters at a tick of its clock.
  for (let tick = 0; tick < 4; tick++) code.hlt()
  // The firmware has put the power management block at port 0x600.
  code.movImm(Reg.dx, 0x604).movImm(Reg.ax, 0x2000).db(0xef)
  code.label('stop').hlt().jmp('stop')
  code.label('failed').movLabel(Reg.si, 'failure').call('print').jmp('stop')
  printer(code)
  string(code, 'text', `${text}\r\n`)
  string(code, 'done', '\r\nwritten\r\n')
  string(code, 'failure', 'the disk fails\r\n')
  const bytes = code.build()
  if (bytes.length > sectorBytes - 2) throw new Error(`${bytes.length} bytes in a boot sector`)
  const sector = new Uint8Array(sectorBytes)
  sector.set(bytes)
  new DataView(sector.buffer).setUint16(sectorBytes - 2, signature, true)
  return sector
}

/** One sector between the disk and the buffer, by a disk address packet. */
function transfer(code: Assembler, what: number, sector: number): void {
  const packet = [0x0010, 1, bufferAddress, 0, sector, 0, 0, 0]
  for (const [i, word] of packet.entries()) {
    code.movImm(Reg.ax, word).store(2, packetAt + 2 * i)
  }
  // mov dl, [drive]; mov ah, what; int 0x13
  code.movImm(Reg.si, packetAt).db(0x8a, 0x16).value(driveAt, 2)
  code
    .movImm(Reg.ax, what << 8)
    .int(0x13)
    .jcc(Cond.b, 'failed')
}

/** Prints the text at ds:si through INT 10h. */
function printer(code: Assembler): void {
  // lodsb; test al, al; mov ah, 0x0e; mov bx, 7
  code.label('print').db(0xac, 0x84, 0xc0).jcc(Cond.z, 'printed')
  code.db(0xb4, 0x0e).movImm(Reg.bx, 7).int(0x10).jmp('print')
  code.label('printed').ret()
}

function string(code: Assembler, label: string, text: string): void {
  code.label(label).db(...Buffer.from(text, 'latin1'), 0)
}

const romBytes = 1024
const pciStructureAt = 0x1c

/** An option ROM of a PCI device that prints `text` when firmware runs it. */
export function optionRom(vendor: number, device: number, text: string): Uint8Array {
  const rom = new Uint8Array(romBytes)
  const view = new DataView(rom.buffer)
  // Signature, size, entry: jmp to the code behind the structure.
  rom.set([0x55, 0xaa, romBytes / sectorBytes, 0xeb, 0x3b])
  view.setUint16(0x18, pciStructureAt, true)
  rom.set(Buffer.from('PCIR'), pciStructureAt)
  view.setUint16(pciStructureAt + 4, vendor, true)
  view.setUint16(pciStructureAt + 6, device, true)
  view.setUint16(pciStructureAt + 10, 0x18, true)
  view.setUint16(pciStructureAt + 16, romBytes / sectorBytes, true)
  view.setUint8(pciStructureAt + 21, 0x80)
  const code = new Assembler(16, 0x40)
  // pusha; push ds; push cs; pop ds; cld
  code.db(0x60, 0x1e, 0x0e, 0x1f, 0xfc).movLabel(Reg.si, 'text').call('print')
  // pop ds; popa; xor ax, ax; retf
  code.db(0x1f, 0x61, 0x31, 0xc0, 0xcb)
  printer(code)
  string(code, 'text', text)
  rom.set(code.build(), 0x40)
  let sum = 0
  for (const byte of rom) sum += byte
  rom[romBytes - 1] = -sum & 0xff
  return rom
}
