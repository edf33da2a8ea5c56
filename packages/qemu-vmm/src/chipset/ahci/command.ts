import type { GuestMemory } from 'kvm-core'

import { dmaPieces, dmaWrite } from '../../machine/dma.ts'
import type { TaskFile } from '../ide/task-file.ts'

const HEADER_BYTES = 32
const FIS_BYTES = 0x80
const PRD_BYTES = 16
const PRD_COUNT_MASK = 0x3f_ffff
const FIS_HOST_TO_DEVICE = 0x27
const FIS_IS_COMMAND = 0x80
const PACKET_AT = 0x40
const PACKET_BYTES = 12
const ADDRESS_LIMIT = 2 ** 52

/** A slot of the command list, with the FIS that it points to (AHCI 1.3.1, 4.2.2 and 4.2.3). */
export interface Command {
  headerGpa: number
  tableGpa: number
  prdCount: number
  isPacket: boolean
  fis: Uint8Array
}

/** Memory of a command's data. */
export interface CommandMemory {
  pieces: Uint8Array[]
  addresses: number[]
  length: number
}

/** Reads a slot; undefined when a part of it is not RAM. */
export function readCommand(
  memory: GuestMemory,
  listGpa: number,
  slot: number,
): Command | undefined {
  const headerGpa = listGpa + slot * HEADER_BYTES
  const header = new DataView(new ArrayBuffer(HEADER_BYTES))
  if (!read(memory, headerGpa, header)) return undefined
  const flags = header.getUint16(0, true)
  const tableGpa = address(header, 8)
  const fis = new Uint8Array(FIS_BYTES)
  if (!read(memory, tableGpa, fis)) return undefined
  return {
    headerGpa,
    tableGpa,
    prdCount: header.getUint16(2, true),
    isPacket: (flags & 0x20) !== 0,
    fis,
  }
}

/** Whether the FIS carries a command rather than a write of the control register. */
export function isCommand({ fis }: Command): boolean {
  return fis[0] === FIS_HOST_TO_DEVICE && (fis[1]! & FIS_IS_COMMAND) !== 0
}

/** Whether the FIS sets the bit of a software reset. */
export function resets({ fis }: Command): boolean {
  return fis[0] === FIS_HOST_TO_DEVICE && (fis[15]! & 0x04) !== 0
}

/** Puts the registers of the FIS into those of the device. */
export function loadTaskFile(file: TaskFile, { fis }: Command): void {
  for (const [register, previous, present] of [
    [1, 11, 3],
    [2, 13, 12],
    [3, 8, 4],
    [4, 9, 5],
    [5, 10, 6],
  ] as const) {
    file.write(register, fis[previous]!)
    file.write(register, fis[present]!)
  }
  file.device = fis[7]!
}

/** The bytes of a packet command. */
export function packetOf({ fis }: Command): Uint8Array {
  return fis.slice(PACKET_AT, PACKET_AT + PACKET_BYTES)
}

/** The first `length` bytes that the table describes; undefined when a part is not RAM. */
export function collectData(
  memory: GuestMemory,
  { tableGpa, prdCount }: Command,
  length: number,
  toMemory: boolean,
): CommandMemory | undefined {
  const result: CommandMemory = { pieces: [], addresses: [], length: 0 }
  const entry = new DataView(new ArrayBuffer(PRD_BYTES))
  for (let i = 0; i < prdCount && result.length < length; i++) {
    if (!read(memory, tableGpa + FIS_BYTES + i * PRD_BYTES, entry)) return undefined
    const bytes = (entry.getUint32(12, true) & PRD_COUNT_MASK) + 1
    const take = Math.min(bytes, length - result.length)
    const base = address(entry, 0)
    const { pieces, addresses } = result
    if (!dmaPieces(memory, base, take, toMemory, pieces, addresses)) return undefined
    result.length += take
  }
  return result
}

/** Writes how many bytes were moved into the header. */
export function writeByteCount(memory: GuestMemory, { headerGpa }: Command, bytes: number): void {
  const view = new DataView(new ArrayBuffer(4))
  view.setUint32(0, bytes, true)
  const bytesMoved = new Uint8Array(view.buffer)
  if (memory.contains(headerGpa + 4, 4)) dmaWrite(memory, headerGpa + 4, bytesMoved)
}

function address(view: DataView, at: number): number {
  const value = view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true)
  // Beyond what is an address at all there is certainly no RAM.
  return value < ADDRESS_LIMIT ? value - (value % 2) : ADDRESS_LIMIT
}

function read(memory: GuestMemory, gpa: number, target: DataView | Uint8Array): boolean {
  if (!memory.contains(gpa, target.byteLength)) return false
  memory.read(gpa, new Uint8Array(target.buffer, target.byteOffset, target.byteLength))
  return true
}
