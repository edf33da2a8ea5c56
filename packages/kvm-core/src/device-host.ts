import type {
  DeviceHost,
  DeviceHostOptions,
  PostedWrite,
  ServeHandlers,
} from './api/device-host.ts'
import { DEFER } from './defer.ts'
import { native } from './errors.ts'
import { CONTROL, CONTROL_EVENT, SLOT_STATE } from './generated/abi.ts'
import type { NativeHost, NativeVm } from './native/addon.ts'
import { addon } from './native/loader.ts'

const words = (bytes: number): number => bytes / 4
const pending = words(CONTROL.pending)
const pendingWords = CONTROL.maxVcpus / 32
const pendingEv = words(CONTROL.pendingEv)
const armed = words(CONTROL.armed)
const closed = words(CONTROL.closed)
const bitmap = words(CONTROL.ioeventBitmap)
const bitmapWords = CONTROL.ioeventMax / 32
const slots = words(CONTROL.slots)
const slotWords = words(CONTROL.slotBytes)
const postedHead = words(CONTROL.posted)
const postedTail = postedHead + words(CONTROL.postedTail)
const postedEntries = words(CONTROL.posted + CONTROL.postedEntries)
const postedWords = words(CONTROL.postedBytes)

/**
 * After so many exits or milliseconds a turn looks whether sockets, files or timers of the isolate
 * wait, and ends if they do.
 */
const turnExits = 64
const turnMs = 0.1
/** A turn ends after this in any case: promises and ticks cannot be looked for. */
const longestTurnMs = 0.5
/** Looks at the pending word, some nanoseconds each, before the addon is asked to poll. */
const quickLooks = 100

/** The isolate's side of the control page. */
export class DeviceHostImpl implements DeviceHost {
  readonly id: number
  readonly control: Int32Array
  readonly #native: NativeHost
  readonly #buffer: ArrayBuffer
  readonly #bytes: DataView
  readonly #runPage: (vcpu: number) => ArrayBuffer
  /** Pages of the vCPUs that have exited to this host: a vCPU keeps its page. */
  readonly #pages: ArrayBuffer[] = []
  readonly #onClose: (host: DeviceHostImpl) => void
  #open = true

  constructor(
    vm: NativeVm,
    onDoorbell: () => void,
    opts: DeviceHostOptions,
    runPage: (vcpu: number) => ArrayBuffer,
    onClose: (host: DeviceHostImpl) => void,
  ) {
    this.id = opts.id ?? 0
    this.#native = native(() =>
      vm.createDeviceHost(this.id, opts.maxPollUs ?? 50, () => {
        // Whoever rings because the VM is closing is answered by the VM's own close.
        if (this.#open && Atomics.load(this.control, closed) === 0) onDoorbell()
      }),
    )
    this.#buffer = this.#native.control()
    this.control = new Int32Array(this.#buffer)
    this.#bytes = new DataView(this.#buffer)
    this.#runPage = runPage
    this.#onClose = onClose
  }

  get pollUs(): number {
    return this.#native.pollUs
  }

  serve(handlers: ServeHandlers): number {
    if (!this.#open) return 0
    const { control } = this
    let [handled, exits] = [0, 0]
    const start = performance.now()
    let nextLook = start + turnMs
    for (let round = 1; ; round++) {
      if (!this.#open || Atomics.load(control, closed) !== 0) return handled
      handled += this.#events(handlers)
      for (let word = 0; word < pendingWords; word++) {
        if (control[pending + word] === 0) continue
        for (let mask = this.take(word); mask !== 0;) {
          const bit = 31 - Math.clz32(mask)
          mask = (mask ^ (1 << bit)) >>> 0
          this.#exit(word * 32 + bit, handlers, mask, word)
          exits++
          handled++
        }
      }
      if (!this.#open) return handled
      // The clock is not free: it is asked once for several rounds.
      const now = (round & 7) === 0 ? performance.now() : 0
      if (exits >= turnExits || now >= nextLook) {
        exits = 0
        nextLook = (now === 0 ? performance.now() : now) + turnMs
        if (nextLook > start + longestTurnMs || this.#native.mustYield()) {
          this.#native.ringLater()
          return handled
        }
      }
      if (this.#comesSoon()) continue
      const found = this.#native.poll()
      if (found === 2) {
        // Exits come fast, but a timer is due: it is let in without going to sleep.
        this.#native.ringLater()
        return handled
      }
      if (found === 0 && this.rearm()) return handled
    }
  }

  take(word: number = 0): number {
    if (!this.#open) return 0
    return Atomics.exchange(this.control, pending + (word & 7), 0) >>> 0
  }

  takeEvents(): number {
    if (!this.#open) return 0
    return Atomics.exchange(this.control, pendingEv, 0)
  }

  takeIoEvent(): number {
    if (!this.#open) return -1
    for (let word = 0; word < bitmapWords; word++) {
      const bits = this.control[bitmap + word] ?? 0
      if (bits === 0) continue
      const bit = 31 - Math.clz32(bits)
      Atomics.and(this.control, bitmap + word, ~(1 << bit))
      return word * 32 + bit
    }
    return -1
  }

  takePosted(): PostedWrite | undefined {
    if (!this.#open) return undefined
    const head = Atomics.load(this.control, postedHead)
    if (head === Atomics.load(this.control, postedTail)) return undefined
    const index = (head >>> 0) % CONTROL.postedMax
    const at = (postedEntries + index * postedWords) * 4
    const write: PostedWrite = {
      space: this.#bytes.getUint32(at + 20, true) === 1 ? 'mmio' : 'pio',
      addr: this.#bytes.getUint32(at + 4, true) * 2 ** 32 + this.#bytes.getUint32(at, true),
      size: this.#bytes.getUint32(at + 16, true),
      value: this.#bytes.getUint32(at + 8, true),
      high: this.#bytes.getUint32(at + 12, true),
    }
    Atomics.store(this.control, postedHead, (head + 1) | 0)
    return write
  }

  complete(vcpu: number): boolean {
    if (!this.#open || !(vcpu >= 0 && vcpu < CONTROL.maxVcpus)) return false
    const state = slots + vcpu * slotWords
    const { Posted, Idle } = SLOT_STATE
    if (Atomics.compareExchange(this.control, state, Posted, Idle) === Posted) return true
    // It sleeps, and waking it is a system call; or it was given up.
    return this.#native.complete(vcpu)
  }

  rearm(): boolean {
    if (!this.#open) return true
    Atomics.store(this.control, armed, 1)
    if (!this.#waiting()) return true
    Atomics.store(this.control, armed, 0)
    return false
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#native.close()
    addon().detachBuffer(this.#buffer)
    this.#onClose(this)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** Looks for the next exit of the first 32 vCPUs while it costs nothing. */
  #comesSoon(): boolean {
    for (let i = 0; i < quickLooks; i++) {
      if (Atomics.load(this.control, pending) !== 0) return true
    }
    return false
  }

  #waiting(): boolean {
    let any = Atomics.load(this.control, pendingEv) | Atomics.load(this.control, closed)
    for (let word = 0; word < pendingWords; word++) {
      any |= Atomics.load(this.control, pending + word)
    }
    return any !== 0
  }

  #events(handlers: ServeHandlers): number {
    if (this.control[pendingEv] === 0) return 0
    const events = this.takeEvents()
    let handled = 0
    if ((events & CONTROL_EVENT.Posted) !== 0) handled += this.#posted(handlers)
    if ((events & CONTROL_EVENT.Ioevent) !== 0) {
      for (let id = this.takeIoEvent(); id >= 0; id = this.takeIoEvent()) {
        handlers.ioevent?.(id)
        handled++
        if (!this.#open) break
      }
    }
    return handled
  }

  #posted(handlers: ServeHandlers): number {
    let handled = 0
    // A guest that never stops writing must not keep the isolate here.
    while (this.#open && handled < CONTROL.postedMax) {
      const write = this.takePosted()
      if (write === undefined) return handled
      handlers.posted?.(write)
      handled++
    }
    Atomics.or(this.control, pendingEv, CONTROL_EVENT.Posted)
    return handled
  }

  #page(vcpu: number): ArrayBuffer {
    const page = this.#runPage(vcpu)
    this.#pages[vcpu] = page
    return page
  }

  #exit(vcpu: number, handlers: ServeHandlers, rest: number, word: number): void {
    // What this vCPU posted before the exit comes first.
    if (this.control[postedHead] !== this.control[postedTail]) this.#posted(handlers)
    let answer: ReturnType<ServeHandlers['exit']>
    try {
      const page = this.#pages[vcpu] ?? this.#page(vcpu)
      answer = handlers.exit(vcpu, page)
    } catch (error) {
      // The exit was not answered, and those behind it were not looked at: they are not lost.
      if (this.#open) Atomics.or(this.control, pending + word, rest)
      throw error
    }
    if (answer !== DEFER && this.#open) this.complete(vcpu)
  }
}
