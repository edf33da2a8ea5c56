import { Ahci } from '../../src/chipset/ahci/ahci.ts'
import { Bus } from '../../src/machine/bus.ts'
import { FakeDrive } from './fake-drive.ts'
import { createCdrom, createDisk } from './ide-driver.ts'
import { FlatRam } from './ram.ts'

export const BASE = 0xfebf_0000
const LIST = 0x1000
const FIS = 0x2000
const TABLE = 0x3000

/** An AHCI controller with a disk at port 0 and a CD drive at port 1, and what a driver does. */
export class AhciDriver {
  readonly bus: Bus = new Bus()
  readonly ram: FlatRam = new FlatRam(1 << 20)
  readonly ahci: Ahci
  readonly disk: FakeDrive = new FakeDrive(4096 * 512)
  readonly cd: FakeDrive = new FakeDrive(64 * 2048, true)
  readonly messages: [number, number][] = []
  holdsMessages = false
  interrupt = false

  constructor() {
    this.ahci = new Ahci('ahci', this.bus, this.ram, {
      sendMessage: (address, data) => {
        if (!this.holdsMessages) this.messages.push([address, data])
        return !this.holdsMessages
      },
      firstSerial: 5,
    })
    this.ahci.fn.onInterrupt = (level) => {
      this.interrupt = level
    }
    this.ahci.buses[0]!.attach(0, 'disk', createDisk(this.disk))
    this.ahci.buses[1]!.attach(0, 'cd', createCdrom(this.cd))
    this.ahci.fn.configWrite(0x24, 4, BASE)
    this.ahci.fn.configWrite(4, 2, 6)
    this.set(0x04, 0x8000_0002)
  }

  get(register: number): number {
    return this.bus.mmio.read(BASE + register, 4)
  }

  set(register: number, value: number): void {
    this.bus.mmio.write(BASE + register, 4, value)
  }

  port(port: number, register: number): number {
    return this.get(0x100 + port * 0x80 + register)
  }

  setPort(port: number, register: number, value: number): void {
    this.set(0x100 + port * 0x80 + register, value)
  }

  /** Gives a port its memory, and starts it. */
  start(port: number): void {
    this.setPort(port, 0x00, LIST + port * 0x400)
    this.setPort(port, 0x08, FIS + port * 0x100)
    this.setPort(port, 0x30, 0xffff_ffff)
    this.setPort(port, 0x10, 0xffff_ffff)
    this.setPort(port, 0x14, 0x7dc0_007f)
    this.setPort(port, 0x18, 0x11)
  }

  stop(port: number): void {
    this.setPort(port, 0x18, 0x10)
  }

  /** Fills a slot: registers of the FIS by their offsets, and the pieces of memory. */
  prepare(
    port: number,
    slot: number,
    fis: Readonly<Record<number, number>>,
    pieces: readonly (readonly [number, number])[],
    packet: readonly number[] = [],
  ): void {
    const table = TABLE + slot * 0x200
    const header = this.ram.view(LIST + port * 0x400 + slot * 32, 32)
    header.setUint32(0, 5 | (packet.length > 0 ? 0x20 : 0) | (pieces.length << 16), true)
    header.setUint32(4, 0, true)
    header.setUint32(8, table, true)
    header.setUint32(12, 0, true)
    this.ram.bytes.fill(0, table, table + 0x200)
    this.ram.bytes.set([0x27, 0x80], table)
    for (const [at, value] of Object.entries(fis)) this.ram.bytes[table + Number(at)] = value
    this.ram.bytes.set(packet, table + 0x40)
    for (const [i, [gpa, length]] of pieces.entries()) {
      const entry = this.ram.view(table + 0x80 + i * 16, 16)
      entry.setUint32(0, gpa, true)
      entry.setUint32(12, length - 1, true)
    }
  }

  /** READ or WRITE DMA EXT in a slot. */
  transfer(slot: number, code: number, lba: number, count: number, gpa: number): void {
    const fis = { 2: code, 4: lba & 0xff, 5: lba >> 8, 7: 0x40, 12: count }
    this.prepare(0, slot, fis, [[gpa, count * 512]])
  }

  /** Issues slots, and waits until none is left or one has failed. */
  async issue(port: number, slots: number): Promise<void> {
    this.setPort(port, 0x38, slots)
    for (let turn = 0; turn < 100; turn++) {
      if ((this.port(port, 0x38) & slots) === 0) return
      if ((this.port(port, 0x10) & 0x7000_0000) !== 0) return
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  /** The FIS with registers that a port has received. */
  received(port: number): Uint8Array {
    return this.ram.bytes.slice(FIS + port * 0x100 + 0x40, FIS + port * 0x100 + 0x54)
  }

  moved(port: number, slot: number): number {
    return this.ram.view(LIST + port * 0x400 + slot * 32 + 4, 4).getUint32(0, true)
  }
}
