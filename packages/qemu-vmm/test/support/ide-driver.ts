import { AtapiCdrom } from '../../src/chipset/ide/cdrom.ts'
import { AtaDisk } from '../../src/chipset/ide/disk.ts'
import { guessGeometry } from '../../src/chipset/ide/geometry.ts'
import { PiixIde } from '../../src/chipset/ide/piix-ide.ts'
import { Bus } from '../../src/machine/bus.ts'
import type { Drive } from '../../src/machine/drive.ts'
import { FakeDrive } from './fake-drive.ts'
import { FakeIrq } from './fakes.ts'
import { FlatRam } from './ram.ts'

export const BSY = 0x80
export const DRQ = 0x08
export const ERR = 0x01
const BM = 0xc000

/** An IDE controller and what a driver does with it. */
export class IdeDriver {
  readonly bus: Bus = new Bus()
  readonly ram: FlatRam = new FlatRam(1 << 20)
  readonly irqs: [FakeIrq, FakeIrq] = [new FakeIrq(), new FakeIrq()]
  readonly ide: PiixIde
  readonly disk: FakeDrive
  readonly cd: FakeDrive
  readonly cdrom: AtapiCdrom

  constructor(sectors: number = 4096, cdSectors: number = 64) {
    this.ide = new PiixIde(this.bus, this.ram, this.irqs)
    this.disk = new FakeDrive(sectors * 512)
    this.cd = new FakeDrive(cdSectors * 2048, true)
    this.ide.buses[0].attach(0, 'disk', createDisk(this.disk))
    this.cdrom = createCdrom(cdSectors > 0 ? this.cd : undefined)
    this.ide.buses[1].attach(0, 'cd', this.cdrom)
    this.ide.enable()
    this.ide.fn.configWrite(0x20, 4, BM)
    this.ide.fn.configWrite(4, 2, 0x05)
  }

  out(register: number, value: number, channel: number = 0): void {
    this.bus.pio.write((channel === 0 ? 0x1f0 : 0x170) + register, 1, value)
  }

  in(register: number, channel: number = 0): number {
    return this.bus.pio.read((channel === 0 ? 0x1f0 : 0x170) + register, 1)
  }

  alternate(channel: number = 0): number {
    return this.bus.pio.read(channel === 0 ? 0x3f6 : 0x376, 1)
  }

  control(value: number, channel: number = 0): void {
    this.bus.pio.write(channel === 0 ? 0x3f6 : 0x376, 1, value)
  }

  /** Waits while the device is busy; then its status. */
  async settle(channel: number = 0): Promise<number> {
    for (let turn = 0; turn < 100 && (this.alternate(channel) & BSY) !== 0; turn++) {
      await new Promise((resolve) => setImmediate(resolve))
    }
    return this.in(7, channel)
  }

  /** Sets the address of a 28-bit command. */
  address28(lba: number, count: number, device: number = 0): void {
    this.out(2, count)
    this.out(3, lba & 0xff)
    this.out(4, (lba >> 8) & 0xff)
    this.out(5, (lba >> 16) & 0xff)
    this.out(6, 0xe0 | (device << 4) | (lba >> 24))
  }

  address48(lba: number, count: number): void {
    this.out(6, 0xe0)
    const high = Math.floor(lba / 2 ** 24)
    for (const [register, value] of [
      [2, count >> 8],
      [3, high & 0xff],
      [4, (high >> 8) & 0xff],
      [5, (high >> 16) & 0xff],
      [2, count & 0xff],
      [3, lba & 0xff],
      [4, (lba >> 8) & 0xff],
      [5, (lba >> 16) & 0xff],
    ] as const) {
      this.out(register, value)
    }
  }

  /** Reads `length` bytes from the data port, block by block as the device offers them. */
  async readData(length: number, channel: number = 0, size: 1 | 2 | 4 = 2): Promise<Uint8Array> {
    const data = new Uint8Array(length)
    const port = channel === 0 ? 0x1f0 : 0x170
    for (let at = 0; at < length; at += size) {
      const status = await this.settle(channel)
      if ((status & DRQ) === 0) throw new Error(`no data at ${at}: status ${status.toString(16)}`)
      const value = this.bus.pio.read(port, size)
      for (let i = 0; i < size; i++) data[at + i] = (value >>> (i * 8)) & 0xff
    }
    return data
  }

  async writeData(data: Uint8Array, channel: number = 0): Promise<void> {
    for (let at = 0; at < data.length; at += 2) {
      const status = await this.settle(channel)
      if ((status & DRQ) === 0) throw new Error(`no room at ${at}: status ${status.toString(16)}`)
      const value = data[at]! | (data[at + 1]! << 8)
      this.bus.pio.write(channel === 0 ? 0x1f0 : 0x170, 2, value)
    }
  }

  /** Puts a table of address and length at 0x1000 and starts the bus master. */
  startDma(entries: readonly [number, number][], channel: number = 0, read: boolean = true): void {
    this.stopDma(channel)
    const table = this.ram.view(0x1000, entries.length * 8)
    for (const [i, [gpa, length]] of entries.entries()) {
      table.setUint32(i * 8, gpa, true)
      table.setUint16(i * 8 + 4, length & 0xffff, true)
      table.setUint16(i * 8 + 6, i === entries.length - 1 ? 0x8000 : 0, true)
    }
    const base = BM + channel * 8
    this.bus.pio.write(base + 4, 4, 0x1000)
    this.bus.pio.write(base + 2, 1, 0x06)
    this.bus.pio.write(base, 1, read ? 0x09 : 0x01)
  }

  busMaster(channel: number = 0): number {
    return this.bus.pio.read(BM + channel * 8 + 2, 1)
  }

  stopDma(channel: number = 0): void {
    this.bus.pio.write(BM + channel * 8, 1, 0)
  }

  /** Sends a packet command to the CD drive; `limit` is the byte count of each block. */
  async packet(
    cdb: readonly number[],
    limit: number = 0xfffe,
    dma: boolean = false,
  ): Promise<number> {
    this.out(6, 0xa0, 1)
    this.out(1, dma ? 1 : 0, 1)
    this.out(4, limit & 0xff, 1)
    this.out(5, limit >> 8, 1)
    this.out(7, 0xa0, 1)
    await this.writeData(
      Uint8Array.from({ length: 12 }, (_, i) => cdb[i] ?? 0),
      1,
    )
    return await this.settle(1)
  }

  /** A packet command that answers in one block. */
  async ask(cdb: readonly number[]): Promise<Uint8Array> {
    const status = await this.packet(cdb)
    if ((status & DRQ) === 0) throw new Error(`no answer: error ${this.in(1, 1).toString(16)}`)
    return await this.readData(this.in(4, 1) + this.in(5, 1) * 256, 1)
  }

  /** Sense key and additional codes. */
  async sense(): Promise<number[]> {
    const data = await this.ask([0x03, 0, 0, 0, 18])
    return [data[2]!, data[12]!, data[13]!]
  }
}

export function createDisk(drive: Drive): AtaDisk {
  return new AtaDisk({
    drive,
    model: 'QEMU HARDDISK',
    serial: 'QM00001',
    version: '2.5+',
    geometry: guessGeometry(drive.sizeBytes / 512),
    trim: true,
    rotationRate: 0,
    wwn: 0n,
  })
}

export function createCdrom(drive: FakeDrive | undefined): AtapiCdrom {
  const cdrom = new AtapiCdrom({ model: 'QEMU DVD-ROM', serial: 'QM00003', version: '2.5+' })
  cdrom.setMedium(drive)
  return cdrom
}
