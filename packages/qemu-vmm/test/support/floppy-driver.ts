import { FloppyController } from '../../src/chipset/floppy/controller.ts'
import { FloppyDrive } from '../../src/chipset/floppy/drive.ts'
import { DmaControllers } from '../../src/chipset/i8237.ts'
import { FakeDrive } from './fake-drive.ts'
import { FakeIrq } from './fakes.ts'
import { FlatRam } from './ram.ts'

export const DISK_BYTES = 1440 * 1024
/** Where transfers go to and come from. */
export const BUFFER = 0x2_0000

/** A controller with a 1.44 MB disk, DMA, and what a driver does with them. */
export class FloppyDriver {
  readonly ram: FlatRam = new FlatRam(1 << 20)
  readonly dma: DmaControllers = new DmaControllers(this.ram)
  readonly irq: FakeIrq = new FakeIrq()
  readonly disk: FakeDrive
  readonly drive: FloppyDrive = new FloppyDrive()
  readonly fdc: FloppyController

  constructor(readOnly = false, sizeBytes: number = DISK_BYTES) {
    this.disk = new FakeDrive(sizeBytes, readOnly)
    this.fdc = new FloppyController(this.irq, this.dma.channel(2))
    this.drive.setMedium(this.disk)
    this.fdc.attach(0, this.drive)
    this.fdc.reset()
  }

  status(): number {
    return this.fdc.read(4)
  }

  command(...values: number[]): void {
    for (const value of values) this.fdc.write(5, 1, value)
  }

  /** The bytes of a result. */
  result(): number[] {
    const values: number[] = []
    while ((this.status() & 0xd0) === 0xd0) values.push(this.fdc.read(5))
    return values
  }

  /** Waits until the host is done; then the result. */
  async done(): Promise<number[]> {
    await this.fdc.quiesce()
    return this.result()
  }

  /** Reset, and the four looks that it wants. */
  start(): void {
    this.fdc.write(2, 1, 0)
    this.fdc.write(2, 1, 0x1c)
    for (let unit = 0; unit < 4; unit++) {
      this.command(8)
      this.result()
    }
  }

  /** Sets up the DMA channel. */
  channel(bytes: number, isWrite: boolean, address: number = BUFFER): void {
    const { dma } = this
    dma.write(0x0a, 1, 6)
    dma.write(0x0c, 1, 0)
    dma.write(0x0b, 1, isWrite ? 0x4a : 0x46)
    dma.write(0x04, 1, address & 0xff)
    dma.write(0x04, 1, (address >> 8) & 0xff)
    dma.write(0x81, 1, address >> 16)
    dma.write(0x05, 1, (bytes - 1) & 0xff)
    dma.write(0x05, 1, (bytes - 1) >> 8)
    dma.write(0x0a, 1, 2)
  }

  buffer(length: number): Uint8Array {
    return this.ram.bytes.slice(BUFFER, BUFFER + length)
  }
}
