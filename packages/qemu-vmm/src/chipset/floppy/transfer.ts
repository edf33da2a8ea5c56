import type { DmaChannel } from '../i8237.ts'
import { SECTOR_BYTES } from './drive.ts'
import type { FloppyDrive } from './drive.ts'
import { SIZE_CODE, SR0_ABNORMAL, SR1_NOT_WRITABLE, SR1_NO_DATA, planSectors } from './plan.ts'
import type { Plan, Refusal } from './plan.ts'
import { DATA_BYTES } from './state.ts'
import type { FloppyState } from './state.ts'

const MULTI_TRACK = 0x80

/** A command with data. */
export interface FloppyOrder {
  name: string
  /** Its bytes. */
  fifo: Uint8Array
  drive: FloppyDrive
  /** The data rate that is set. */
  rate: number
  usesDma: boolean
  /** A command may name another track than where the heads are. */
  impliedSeek: boolean
}

/** What the controller does for a transfer. */
export interface FloppyHost {
  /** The host works, or the DMA channel is awaited. */
  busy(): void
  /** Bytes go through the FIFO register. */
  offer(): void
  /** Status registers, and the track of the next sector where it is not that of the heads. */
  end(sr0: number, sr1: number, track?: number): void
}

/** The data of a command, between the disk and the DMA channel or the FIFO register. */
export class FloppyTransfer {
  readonly #dma: DmaChannel
  readonly #host: FloppyHost
  readonly #data: Uint8Array = new Uint8Array(DATA_BYTES)
  #dataLength = 0
  #dataPosition = 0
  #order!: FloppyOrder
  #pending: Promise<void> | undefined
  #epoch = 0

  constructor(dma: DmaChannel, host: FloppyHost) {
    this.#dma = dma
    this.#host = host
  }

  async quiesce(): Promise<void> {
    while (this.#pending !== undefined) await this.#pending
  }

  /** What is under way ends without effect, but for what is written to the disk already. */
  abandon(): void {
    this.#epoch++
    this.#pending = undefined
    this.#dma.cancel()
  }

  save(): Pick<FloppyState, 'data' | 'dataLength' | 'dataPosition'> {
    return {
      data: this.#data.slice(),
      dataLength: this.#dataLength,
      dataPosition: this.#dataPosition,
    }
  }

  load(state: Pick<FloppyState, 'data' | 'dataLength' | 'dataPosition'>): void {
    this.#data.set(state.data)
    this.#dataLength = state.dataLength
    this.#dataPosition = state.dataPosition
  }

  /** Goes on with bytes through the FIFO register. */
  resume(order: FloppyOrder): void {
    this.#order = order
  }

  /** The next byte for the host. */
  readByte(): number {
    const byte = this.#data[this.#dataPosition++] ?? 0
    if (this.#dataPosition >= this.#dataLength) this.#finishTransfer()
    return byte
  }

  /** The next byte of the host. */
  writeByte(byte: number): void {
    this.#data[this.#dataPosition++] = byte
    if (this.#dataPosition >= this.#dataLength) this.#store()
  }

  get #isWrite(): boolean {
    return this.#order.name === 'write' || this.#order.name === 'format'
  }

  /** A command with data: waits for the DMA channel, if there is to be DMA. */
  begin(order: FloppyOrder): void {
    this.#order = order
    this.#host.busy()
    if (!order.usesDma || order.name === 'verify') return this.#move(undefined)
    this.#dma.request((count) => this.#move(count))
  }

  /** @param dmaBytes what the DMA channel moves at most; undefined without DMA */
  #move(dmaBytes: number | undefined): void {
    const most = Math.min(dmaBytes ?? DATA_BYTES, DATA_BYTES)
    const plan = this.#plan(most)
    if ('sr1' in plan) return this.#host.end(plan.sr0, plan.sr1)
    if (this.#isWrite && this.#order.drive.medium!.readOnly) {
      return this.#host.end(SR0_ABNORMAL, SR1_NOT_WRITABLE)
    }
    const whole =
      this.#order.name === 'format' ? this.#order.fifo[3]! * 4 : plan.offsets.length * SECTOR_BYTES
    this.#dataLength = Math.min(most, whole)
    this.#dataPosition = 0
    if (!this.#isWrite) return this.#fetch(plan, dmaBytes !== undefined)
    this.#data.fill(0)
    if (dmaBytes === undefined) return this.#host.offer()
    this.#dma.fromMemory(this.#data.subarray(0, this.#dataLength))
    this.#store()
  }

  #plan(most: number): Plan | Refusal {
    const { fifo: f, rate } = this.#order
    const { drive } = this.#order
    if (this.#order.name === 'format') {
      const head = (f[1]! >> 2) & 1
      const address = { track: drive.track, head, sector: 1, lastSector: f[3]!, multiTrack: false }
      return planSectors(drive, address, f[2]!, rate, f[3]! * SECTOR_BYTES)
    }
    const [track, head, sector] = [f[2]!, f[3]! & 1, f[4]!]
    const multiTrack = (f[0]! & MULTI_TRACK) !== 0
    if (track !== drive.track && !this.#order.impliedSeek) {
      return { sr0: SR0_ABNORMAL, sr1: SR1_NO_DATA }
    }
    const plan = planSectors(
      drive,
      { track, head, sector, lastSector: f[6]!, multiTrack },
      f[5]!,
      rate,
      most,
    )
    if (!('sr1' in plan) && track !== drive.track) drive.seek(track)
    return plan
  }

  /** Reads what the command wants. */
  #fetch(plan: Plan, isDma: boolean): void {
    const medium = this.#order.drive.medium!
    const parts = plan.offsets.map((at, i) =>
      medium.readv(at, [this.#data.subarray(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES)]),
    )
    this.#await(Promise.all(parts), () => {
      if (this.#order.name === 'verify') return this.#finishTransfer()
      if (!isDma) return this.#host.offer()
      this.#dma.toMemory(this.#data.subarray(0, this.#dataLength))
      this.#finishTransfer()
    })
  }

  /** Writes what came from the host. */
  #store(): void {
    this.#host.busy()
    const plan = this.#plan(this.#dataLength)
    if ('sr1' in plan) return this.#host.end(plan.sr0, plan.sr1)
    const { drive } = this.#order
    const medium = drive.medium!
    // Another disk may have been put in since the command began.
    if (medium.readOnly) return this.#host.end(SR0_ABNORMAL, SR1_NOT_WRITABLE)
    let { offsets } = plan
    if (this.#order.name === 'format') {
      const ids = Array.from({ length: this.#dataLength >> 2 }, (_, i) =>
        this.#data.subarray(i * 4, i * 4 + 4),
      )
      const places = ids.map(([track, head, sector]) => drive.offset(track!, head!, sector!))
      if (places.includes(undefined) || ids.some((id) => id[3] !== SIZE_CODE)) {
        return this.#host.end(SR0_ABNORMAL, SR1_NO_DATA)
      }
      offsets = places as number[]
      this.#data.fill(this.#order.fifo[5]!)
    }
    const writes = offsets.map((at, i) =>
      medium.writev(at, [this.#data.slice(i * SECTOR_BYTES, (i + 1) * SECTOR_BYTES)]),
    )
    this.#await(Promise.all(writes), () => this.#finishTransfer())
  }

  /** All data is through: the heads are where the next sector would be. */
  #finishTransfer(): void {
    const { drive } = this.#order
    const plan = this.#plan(this.#dataLength)
    if (!('sr1' in plan)) {
      drive.head = plan.head
      drive.sector = plan.sector
      this.#host.end(0, 0, plan.track)
    } else this.#host.end(plan.sr0, plan.sr1)
  }

  #await(work: Promise<unknown>, next: () => void): void {
    const epoch = this.#epoch
    const settled = (then: () => void) => (): void => {
      if (epoch !== this.#epoch) return
      this.#pending = undefined
      then()
    }
    this.#pending = work.then(
      settled(next),
      settled(() => this.#host.end(SR0_ABNORMAL, SR1_NO_DATA)),
    )
  }
}
