import { FrameBatch, MAX_FRAME_BYTES, MIN_FRAME_BYTES, RECORD_FRAME_OFFSET } from 'virtio'

import { putChecksum } from '../../net/checksum.ts'
import { pendingBatch } from '../../net/pending-batch.ts'
import {
  NO_CONTEXT,
  type OffloadContext,
  cutSegment,
  isLastSegment,
  readContext,
} from './offload.ts'
import { count, countSize, grow } from './register-map.ts'
import {
  BPTC,
  CAUSE_TXQE,
  CTRL,
  CTRL_VME,
  GOTCL,
  GPTC,
  MPTC,
  PTC64,
  TCTL,
  TCTL_EN,
  TCTL_PSP,
  TDBAL,
  TDH,
  TDLEN,
  TDT,
  TOTL,
  TPT,
  TSCTC,
  VET,
} from './registers.ts'
import { ONLY_RING, type TransmitLinks, type TransmitModel } from './transmit-model.ts'
import { type TransmitState, loadTransmit } from './transmit-state.ts'

export const DESCRIPTOR_BYTES = 16
/** A frame without the tag that the card adds. */
const MOST_FRAME_BYTES = MAX_FRAME_BYTES - 4
/** As many as the largest packet can have; behind that they count from 0. */
const MOST_SEGMENTS = 0xf_ffff
/** The least that is sent where the guest wants short frames filled up, without check sequence. */
const PADDED_BYTES = 60
/** Descriptors, frames, and bytes that are looked at in one go: vCPUs wait meanwhile. */
const STEPS = 512
const STEP_BYTES = 2 << 20

/** Bits of the third word of a descriptor (Intel 8254x manual, 3.3.3 and 3.3.7). */
const COMMAND_EOP = 0x0100_0000
/** In a legacy descriptor: insert a checksum. In a data descriptor: cut into segments. */
const COMMAND_IC = 0x0400_0000
const COMMAND_TSE = 0x0400_0000
const COMMAND_RS = 0x0800_0000
const COMMAND_RPS = 0x1000_0000
const COMMAND_DEXT = 0x2000_0000
const COMMAND_VLE = 0x4000_0000
const TYPE_DATA = 0x0010_0000
const STATUS_DD = 0x01
const STATUS_KEPT = 0xffff_fff0
const POPTS_IXSM = 0x01
const POPTS_TXSM = 0x02

/** Takes frames from the guest's descriptors (Intel 8254x manual, 3.3 to 3.5), and sends them in batches. */
export class Transmitter {
  readonly #links: TransmitLinks
  readonly #model: TransmitModel
  /** Indices of the ring's registers. */
  readonly #base: number
  readonly #length: number
  readonly #head: number
  readonly #tail: number
  #batch: FrameBatch | undefined
  /** The first record that the other end did not take. */
  #from = 0
  /** The frame that is being put together, and what of it is there. */
  #data: Uint8Array<ArrayBuffer> = new Uint8Array(0)
  #view: DataView<ArrayBuffer> = new DataView(this.#data.buffer)
  #state: TransmitState = idle()
  readonly #descriptor: Uint8Array = new Uint8Array(DESCRIPTOR_BYTES)
  readonly #word: DataView = new DataView(this.#descriptor.buffer)
  #causes = 0
  #isRunning = false
  /** Frames that no network has: too short or too long, or with impossible segments. */
  errors = 0

  constructor(links: TransmitLinks, model: TransmitModel = ONLY_RING) {
    this.#links = links
    this.#model = model
    const { ringOffset } = model
    this.#base = (TDBAL + ringOffset) >> 2
    this.#length = (TDLEN + ringOffset) >> 2
    this.#head = (TDH + ringOffset) >> 2
    this.#tail = (TDT + ringOffset) >> 2
  }

  get isBlocked(): boolean {
    return this.#batch !== undefined && this.#from < this.#batch.used
  }

  reset(): void {
    this.#state = idle()
    this.#batch?.clear()
    this.#from = 0
    this.#causes = 0
  }

  /** Sends what the guest has put into its ring, as much as one go allows. */
  run(): void {
    const { registers } = this.#links
    if (this.#isRunning || (registers[TCTL >> 2]! & TCTL_EN) === 0) return
    this.#isRunning = true
    try {
      this.#causes = 0
      if (!this.#flush()) return
      if (this.#work()) this.#links.later()
      this.#flush()
    } finally {
      this.#isRunning = false
    }
    if (this.#causes !== 0) this.#links.raise(this.#causes)
  }

  save(): unknown {
    const pending = this.#batch?.bytes.slice(this.#from, this.#batch.used) ?? new Uint8Array(0)
    return { ...this.#state, data: this.#data.slice(0, this.#state.size), pending }
  }

  load(saved: unknown): void {
    const { data, pending, ...state } = loadTransmit(this.#model.name, saved, MOST_FRAME_BYTES)
    this.reset()
    this.#state = state
    if (data.length > 0) {
      this.#allocate()
      this.#data.set(data)
    }
    if (pending.length > 0) this.#batch = pendingBatch(this.#model.name, pending)
  }

  /** True when there is more to do; false when the ring is empty, or the other end has to take frames first. */
  #work(): boolean {
    let bytes = 0
    for (let step = 0; step < STEPS; step++) {
      if (this.#batchIsFull() && !this.#flush()) return false
      if (this.#state.left < 0) {
        if (this.#isEmpty) {
          this.#causes |= CAUSE_TXQE
          return false
        }
        if (!this.#fetch()) return false
      } else bytes += this.#copy()
      if (this.#state.left === 0) this.#finishDescriptor()
      if (bytes > STEP_BYTES) return true
    }
    return true
  }

  get #ringBase(): number {
    const { registers } = this.#links
    return registers[this.#base + 1]! * 0x1_0000_0000 + ((registers[this.#base]! & ~15) >>> 0)
  }

  get #isEmpty(): boolean {
    const { registers } = this.#links
    const tail = registers[this.#tail]!
    if (registers[this.#head] === tail) return true
    return this.#model.needsTailInRing && tail * DESCRIPTOR_BYTES >= registers[this.#length]!
  }

  /** Reads the next descriptor; false for a ring that is not in memory. */
  #fetch(): boolean {
    const { registers, memory } = this.#links
    const head = registers[this.#head]!
    const isInRing = (head + 1) * DESCRIPTOR_BYTES <= registers[this.#length]!
    if (!isInRing || !memory.read(this.#ringBase + head * DESCRIPTOR_BYTES, this.#descriptor)) {
      return false
    }
    const state = this.#state
    const command = this.#word.getUint32(8, true)
    const upper = this.#word.getUint32(12, true)
    const isExtended = (command & COMMAND_DEXT) !== 0
    state.command = command
    state.upper = upper
    if (isExtended && (command & TYPE_DATA) === 0) {
      const context = readContext(this.#word)
      const isForSegments = (command & COMMAND_TSE) !== 0
      if (this.#model.sharesContext || !isForSegments) state.context = context
      if (this.#model.sharesContext || isForSegments) {
        state.tsoContext = context
        state.segments = 0
      }
      state.left = 0
      return true
    }
    if (isExtended && state.size === 0) state.options = (upper >>> 8) & 0xff
    state.isCut = isExtended && (command & COMMAND_TSE) !== 0
    const address = this.#word.getUint32(4, true) * 0x1_0000_0000 + this.#word.getUint32(0, true)
    state.left = command & (isExtended ? 0xf_ffff : 0xffff)
    // Memory ends long before.
    const isReachable = Number.isSafeInteger(address + state.left)
    state.address = isReachable ? address : 0
    state.isBad ||= !isReachable
    this.#allocate()
    return true
  }

  /** Copies what one step takes of the descriptor's bytes; returns how many. */
  #copy(): number {
    const state = this.#state
    const { headers, segment } = state.tsoContext
    let room = MOST_FRAME_BYTES - state.size
    if (state.isCut && !state.isBad) {
      if (headers === 0 || segment === 0 || headers + segment > MOST_FRAME_BYTES) state.isBad = true
      else room = headers + segment - state.size
    }
    // What is too long is read no further.
    if (state.isBad || room <= 0) {
      state.isBad = true
      state.left = 0
      return 0
    }
    const bytes = Math.min(state.left, room)
    if (
      !this.#links.memory.read(state.address, this.#data.subarray(state.size, state.size + bytes))
    ) {
      state.isBad = true
      state.left = 0
      return 0
    }
    const before = state.size
    state.size += bytes
    state.left -= bytes
    state.address += bytes
    if (!state.isCut) return bytes
    if (before < headers && state.size >= headers) state.header = this.#data.slice(0, headers)
    if (state.size === headers + segment) {
      this.#emit()
      this.#data.set(state.header)
      state.size = headers
    }
    return bytes
  }

  #finishDescriptor(): void {
    const state = this.#state
    state.left = -1
    const { command, upper } = state
    const isContext = (command & (COMMAND_DEXT | TYPE_DATA)) === COMMAND_DEXT
    const isEnd = !isContext && (command & COMMAND_EOP) !== 0
    if (isEnd) {
      const isTooShort = state.isCut && state.size <= state.tsoContext.headers
      if (state.isBad) this.errors++
      // Segments that end with the packet have been sent.
      else if (!isTooShort || state.segments === 0) this.#emit()
      this.#beginFrame()
    }
    const asks = (command & (COMMAND_RS | COMMAND_RPS)) !== 0
    this.#advance(asks || (isEnd && this.#model.reportsPackets()) ? upper : undefined)
  }

  /** Says that a descriptor is done, where `upper` is its last word, and goes on to the next. */
  #advance(upper: number | undefined): void {
    const { registers, memory } = this.#links
    const head = registers[this.#head]!
    if (upper !== undefined) {
      this.#word.setUint32(12, (upper & STATUS_KEPT) | STATUS_DD, true)
      memory.write(this.#ringBase + head * DESCRIPTOR_BYTES + 12, this.#descriptor.subarray(12, 16))
      this.#causes |= this.#model.doneCause()
    }
    const next = head + 1
    registers[this.#head] = next * DESCRIPTOR_BYTES >= registers[this.#length]! ? 0 : next
  }

  #beginFrame(): void {
    const state = this.#state
    state.size = 0
    state.segments = 0
    state.options = 0
    state.isCut = false
    state.isBad = false
  }

  /** Puts the frame into the batch, with what the card adds. */
  #emit(): void {
    const state = this.#state
    const { registers } = this.#links
    const { command, upper } = state
    const context = state.isCut ? state.tsoContext : state.context
    const sums = (state.options & POPTS_TXSM) !== 0
    if (state.isCut) {
      cutSegment(this.#view, state.size, context, state.segments, sums)
      if (context.isTcp && state.segments > 0 && isLastSegment(context, state.segments)) {
        count(registers, TSCTC)
      }
      state.segments = (state.segments + 1) & MOST_SEGMENTS
    }
    if ((command & COMMAND_DEXT) === 0) {
      // A legacy descriptor says itself where its checksum goes and begins.
      if ((command & COMMAND_IC) !== 0) {
        putChecksum(this.#view, state.size, (command >>> 16) & 0xff, (upper >>> 8) & 0xff, 0)
      }
    } else this.#putSums(context, sums)
    if (state.size < PADDED_BYTES && (registers[TCTL >> 2]! & TCTL_PSP) !== 0) {
      this.#data.fill(0, state.size, PADDED_BYTES)
      state.size = PADDED_BYTES
    }
    if (state.size < MIN_FRAME_BYTES) {
      this.errors++
      return
    }
    const isTagged = (registers[CTRL >> 2]! & CTRL_VME) !== 0 && (command & COMMAND_VLE) !== 0
    this.#append(isTagged ? upper >>> 16 : undefined)
  }

  #putSums(context: OffloadContext, sums: boolean): void {
    const { size, options } = this.#state
    if (sums) putChecksum(this.#view, size, context.tuSum, context.tuStart, context.tuEnd)
    if ((options & POPTS_IXSM) !== 0) {
      putChecksum(this.#view, size, context.ipSum, context.ipStart, context.ipEnd)
    }
  }

  #append(tag: number | undefined): void {
    const { registers } = this.#links
    const { size } = this.#state
    const batch = (this.#batch ??= new FrameBatch())
    const extra = tag === undefined ? 0 : 4
    const at = batch.append(size + extra)
    // There is room: that was looked at before.
    if (at < 0) return
    const frame = at + RECORD_FRAME_OFFSET
    if (tag === undefined) batch.bytes.set(this.#data.subarray(0, size), frame)
    else {
      batch.bytes.set(this.#data.subarray(0, 12), frame)
      batch.view.setUint16(frame + 12, registers[VET >> 2]!)
      batch.view.setUint16(frame + 14, tag)
      batch.bytes.set(this.#data.subarray(12, size), frame + 16)
    }
    if ((this.#data[0]! & 1) !== 0) {
      count(registers, this.#data.subarray(0, 6).every((byte) => byte === 0xff) ? BPTC : MPTC)
    }
    countSize(registers, PTC64, size + extra + 4)
    count(registers, TPT)
    count(registers, GPTC)
    grow(registers, TOTL, size + 4)
    grow(registers, GOTCL, size + 4)
  }

  #batchIsFull(): boolean {
    return this.#batch !== undefined && !this.#batch.hasRoom(MAX_FRAME_BYTES)
  }

  /** Sends what there is; false when the other end did not take all of it. */
  #flush(): boolean {
    const batch = this.#batch
    if (batch === undefined || batch.used === 0) return true
    const { side } = this.#links
    if (this.#links.isLoop()) {
      this.#links.loop(batch)
      this.#from = batch.used
    } else this.#from = side.send(batch, this.#from)
    if (this.#from < batch.used) return false
    batch.clear()
    this.#from = 0
    return true
  }

  #allocate(): void {
    if (this.#data.length > 0) return
    this.#data = new Uint8Array(MOST_FRAME_BYTES)
    this.#view = new DataView(this.#data.buffer)
  }
}

function idle(): TransmitState {
  return {
    left: -1,
    address: 0,
    command: 0,
    upper: 0,
    size: 0,
    segments: 0,
    options: 0,
    isCut: false,
    isBad: false,
    header: new Uint8Array(0),
    context: NO_CONTEXT,
    tsoContext: NO_CONTEXT,
  }
}
