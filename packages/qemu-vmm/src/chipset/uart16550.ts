import type { Clock, ClockTimer, Device, IrqLine, Latch } from '../device.ts'
import { flag, int, list, parseState, time, u16, u8 } from '../machine/state.ts'
import type { Field } from '../machine/state.ts'

/** The transmitter's and receiver's other end. */
export interface UartLink {
  /** Takes one byte, or refuses it by `false`; the UART then waits for `resumeTransmit`. */
  transmit(byte: number): boolean
  /** The receiver has room again. */
  readable(): void
  /** From now on, or no longer, what is transmitted comes back instead. */
  looped?(isLooped: boolean): void
}

const IER_RDI = 0x01
const IER_THRI = 0x02
const IER_RLSI = 0x04
const IER_MSI = 0x08

const IIR_NONE = 0x01
const IIR_RLSI = 0x06
const IIR_RDI = 0x04
const IIR_TIMEOUT = 0x0c
const IIR_THRI = 0x02
const IIR_MSI = 0x00
const IIR_FIFO = 0xc0
const IIR_ID = 0x0f

const FCR_ENABLE = 0x01
const FCR_CLEAR_RX = 0x02
const FCR_CLEAR_TX = 0x04
const FCR_KEPT = 0xc9

const LCR_DLAB = 0x80
const MCR_LOOP = 0x10

const LSR_DR = 0x01
const LSR_OE = 0x02
const LSR_BI = 0x10
const LSR_ERRORS = 0x1e
const LSR_THRE = 0x20
const LSR_TEMT = 0x40

const MSR_DELTAS = 0x0f
/** Carrier, data set ready and clear to send: the other end is always there. */
const MSR_CONNECTED = 0xb0

const FIFO_BYTES = 16
const TRIGGER_BYTES = [1, 4, 8, 14] as const
const DIVISOR_9600 = 12

/** Registers and queues of a UART. */
export interface UartState {
  ier: number
  lcr: number
  mcr: number
  lsr: number
  msr: number
  scr: number
  fcr: number
  divisor: number
  rx: number[]
  tx: number[]
  thrPending: boolean
  timeoutPending: boolean
  /** Guest time of the receive timeout; -1 when none runs. */
  timeoutAtNs: number
}

const STATE: { readonly [K in keyof UartState]: Field<UartState[K]> } = {
  ier: int(0, 0x0f),
  lcr: u8,
  mcr: int(0, 0x1f),
  lsr: u8,
  msr: u8,
  scr: u8,
  fcr: u8,
  divisor: u16,
  rx: list(u8, FIFO_BYTES),
  tx: list(u8, FIFO_BYTES),
  thrPending: flag,
  timeoutPending: flag,
  timeoutAtNs: time,
}

/**
 * 16550A UART. Characters leave at once rather than at the baud rate: the divisor only sets the
 * receive timeout, so a guest's polling driver never waits for a line that does not exist.
 */
export class Uart16550 implements Device<UartState> {
  readonly #irq: IrqLine
  readonly #clock: Clock
  readonly #latch: Latch
  #link: UartLink
  #s: UartState = powerOn()
  #iir = IIR_NONE
  #timeout: ClockTimer | undefined

  /** `latch` is of the line status. */
  constructor(irq: IrqLine, clock: Clock, link: UartLink, latch: Latch = () => {}) {
    this.#irq = irq
    this.#clock = clock
    this.#link = link
    this.#latch = latch
    latch(this.#s.lsr)
  }

  /** Connects another far end. */
  connect(link: UartLink): void {
    this.#link = link
    this.resumeTransmit()
  }

  reset(): void {
    this.#timeout?.cancel()
    this.#s = powerOn()
    this.#link.looped?.(false)
    this.#update()
    this.#link.readable()
  }

  save(): UartState {
    return { ...this.#s, rx: [...this.#s.rx], tx: [...this.#s.tx] }
  }

  load(state: UartState): void {
    const s = parseState<UartState>('uart', state, STATE)
    this.#timeout?.cancel()
    this.#s = s
    this.#link.looped?.((s.mcr & MCR_LOOP) !== 0)
    if (s.timeoutAtNs >= 0) this.#armTimeout(s.timeoutAtNs)
    this.#update()
    this.resumeTransmit()
    this.#link.readable()
  }

  read(offset: number): number {
    const s = this.#s
    switch (offset & 7) {
      case 0:
        return s.lcr & LCR_DLAB ? s.divisor & 0xff : this.#receiveBuffer()
      case 1:
        return s.lcr & LCR_DLAB ? s.divisor >> 8 : s.ier
      case 2: {
        const iir = this.#iir | (s.fcr & FCR_ENABLE ? IIR_FIFO : 0)
        if ((iir & IIR_ID) === IIR_THRI) {
          s.thrPending = false
          this.#update()
        }
        return iir
      }
      case 3:
        return s.lcr
      case 4:
        return s.mcr
      case 5: {
        const { lsr } = s
        if (lsr & (LSR_BI | LSR_OE)) {
          s.lsr &= ~(LSR_BI | LSR_OE)
          this.#update()
        }
        return lsr
      }
      case 6: {
        // Loopback wires RTS to CTS, DTR to DSR, OUT1 to RI and OUT2 to DCD.
        if (s.mcr & MCR_LOOP) {
          return ((s.mcr & 0x0c) << 4) | ((s.mcr & 0x02) << 3) | ((s.mcr & 0x01) << 5)
        }
        const { msr } = s
        if (msr & MSR_DELTAS) {
          s.msr &= ~MSR_DELTAS
          this.#update()
        }
        return msr
      }
      default:
        return s.scr
    }
  }

  write(offset: number, _size: number, value: number): void {
    const s = this.#s
    const byte = value & 0xff
    switch (offset & 7) {
      case 0:
        if (s.lcr & LCR_DLAB) s.divisor = (s.divisor & 0xff00) | byte
        else this.#transmitHolding(byte)
        break
      case 1:
        if (s.lcr & LCR_DLAB) s.divisor = (s.divisor & 0x00ff) | (byte << 8)
        else this.#interruptEnable(byte & 0x0f)
        break
      case 2:
        this.#fifoControl(byte)
        break
      case 3:
        s.lcr = byte
        break
      case 4:
        this.#modemControl(byte & 0x1f)
        break
      case 7:
        s.scr = byte
        break
      default:
        // Line and modem status are read-only.
        break
    }
  }

  /** How many bytes {@link receive} takes now without an overrun. */
  get room(): number {
    const s = this.#s
    if (s.mcr & MCR_LOOP) return 0
    if (!(s.fcr & FCR_ENABLE)) return s.lsr & LSR_DR ? 0 : 1
    if (s.rx.length >= FIFO_BYTES) return 0
    // Up to the trigger level in one go, then byte by byte, so that a driver that takes one
    // burst per interrupt sees the interrupt it waits for.
    const trigger = this.#trigger()
    return s.rx.length < trigger ? trigger - s.rx.length : 1
  }

  /** Bytes that arrive on the line. What does not fit is lost and reported as an overrun. */
  receive(data: Uint8Array): void {
    for (const byte of data) this.#receiveByte(byte)
    this.#update()
  }

  /** A break condition arrives on the line. */
  receiveBreak(): void {
    this.#receiveByte(0)
    this.#s.lsr |= LSR_BI | LSR_DR
    this.#update()
  }

  /** The link takes bytes again after it refused one. */
  resumeTransmit(): void {
    this.#moveTransmit()
  }

  #receiveBuffer(): number {
    const s = this.#s
    const byte = s.rx.shift() ?? 0
    if (s.rx.length === 0) s.lsr &= ~(LSR_DR | LSR_BI)
    this.#stopTimeout()
    if (s.fcr & FCR_ENABLE && s.rx.length > 0) this.#startTimeout()
    this.#update()
    if (!(s.mcr & MCR_LOOP)) this.#link.readable()
    return byte
  }

  #receiveByte(byte: number): void {
    const s = this.#s
    if (s.fcr & FCR_ENABLE) {
      if (s.rx.length < FIFO_BYTES) s.rx.push(byte)
      else s.lsr |= LSR_OE
      s.lsr |= LSR_DR
      this.#startTimeout()
      return
    }
    if (s.lsr & LSR_DR) s.lsr |= LSR_OE
    s.rx[0] = byte
    s.lsr |= LSR_DR
  }

  #transmitHolding(byte: number): void {
    const s = this.#s
    if (s.fcr & FCR_ENABLE) {
      // An overrun of the transmitter replaces the oldest byte.
      if (s.tx.length >= FIFO_BYTES) s.tx.shift()
      s.tx.push(byte)
    } else {
      s.tx[0] = byte
    }
    s.thrPending = false
    s.lsr &= ~(LSR_THRE | LSR_TEMT)
    this.#update()
    this.#moveTransmit()
  }

  #moveTransmit(): void {
    const s = this.#s
    if (s.tx.length === 0) return
    let byte = s.tx[0]
    while (byte !== undefined) {
      if (s.mcr & MCR_LOOP) this.#receiveByte(byte)
      else if (!this.#link.transmit(byte)) return this.#update()
      s.tx.shift()
      byte = s.tx[0]
    }
    s.lsr |= LSR_THRE | LSR_TEMT
    s.thrPending = true
    this.#update()
  }

  #modemControl(mcr: number): void {
    const leavesLoop = (this.#s.mcr & MCR_LOOP & ~mcr) !== 0
    this.#s.mcr = mcr
    this.#link.looped?.((mcr & MCR_LOOP) !== 0)
    this.#moveTransmit()
    if (leavesLoop) this.#link.readable()
  }

  #interruptEnable(ier: number): void {
    const s = this.#s
    const changed = s.ier ^ ier
    s.ier = ier
    // Enabling the interrupt while the holding register is empty raises it again, even when it
    // had been acknowledged: drivers probe for working transmit interrupts that way.
    if (changed & IER_THRI) s.thrPending = (ier & IER_THRI) !== 0 && (s.lsr & LSR_THRE) !== 0
    if (changed !== 0) this.#update()
  }

  #fifoControl(byte: number): void {
    const s = this.#s
    let clear = byte & (FCR_CLEAR_RX | FCR_CLEAR_TX)
    if ((byte ^ s.fcr) & FCR_ENABLE) clear = FCR_CLEAR_RX | FCR_CLEAR_TX
    if (clear & FCR_CLEAR_RX) {
      s.lsr &= ~(LSR_DR | LSR_BI)
      s.rx = []
      this.#stopTimeout()
    }
    if (clear & FCR_CLEAR_TX) {
      s.lsr |= LSR_THRE | LSR_TEMT
      s.tx = []
      s.thrPending = true
    }
    s.fcr = byte & FCR_KEPT
    this.#update()
    if (clear & FCR_CLEAR_RX) this.#link.readable()
  }

  #trigger(): number {
    return TRIGGER_BYTES[(this.#s.fcr >> 6) as 0 | 1 | 2 | 3]
  }

  /** Four character times after the last byte a driver is told about a part-filled FIFO. */
  #startTimeout(): void {
    const s = this.#s
    const dataBits = (s.lcr & 3) + 5
    const frameBits = 1 + dataBits + (s.lcr & 0x08 ? 1 : 0) + (s.lcr & 0x04 ? 2 : 1)
    const baud = 115_200 / Math.max(1, s.divisor)
    this.#stopTimeout()
    this.#armTimeout(this.#clock.nowNs() + Math.round((4 * frameBits * 1e9) / baud))
  }

  #armTimeout(atNs: number): void {
    this.#s.timeoutAtNs = atNs
    this.#timeout = this.#clock.setTimer(atNs, () => {
      this.#s.timeoutAtNs = -1
      if (this.#s.rx.length === 0) return
      this.#s.timeoutPending = true
      this.#update()
    })
  }

  #stopTimeout(): void {
    this.#timeout?.cancel()
    this.#timeout = undefined
    this.#s.timeoutAtNs = -1
    this.#s.timeoutPending = false
  }

  #update(): void {
    const s = this.#s
    const { ier, lsr } = s
    // A read takes errors away.
    this.#latch(lsr & LSR_ERRORS ? undefined : lsr)
    const fifoBelowTrigger = (s.fcr & FCR_ENABLE) !== 0 && s.rx.length < this.#trigger()
    let iir = IIR_NONE
    if (ier & IER_RLSI && lsr & LSR_ERRORS) iir = IIR_RLSI
    else if (ier & IER_RDI && s.timeoutPending) iir = IIR_TIMEOUT
    else if (ier & IER_RDI && lsr & LSR_DR && !fifoBelowTrigger) iir = IIR_RDI
    else if (ier & IER_THRI && s.thrPending) iir = IIR_THRI
    else if (ier & IER_MSI && s.msr & MSR_DELTAS) iir = IIR_MSI
    this.#iir = iir
    this.#irq.set(iir !== IIR_NONE)
  }
}

function powerOn(): UartState {
  return {
    ier: 0,
    lcr: 0,
    mcr: 0x08,
    lsr: LSR_THRE | LSR_TEMT,
    msr: MSR_CONNECTED,
    scr: 0,
    fcr: 0,
    divisor: DIVISOR_9600,
    rx: [],
    tx: [],
    thrPending: false,
    timeoutPending: false,
    timeoutAtNs: -1,
  }
}
