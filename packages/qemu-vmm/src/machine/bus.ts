import { ExitReason, KVM_RUN } from 'kvm-core'
import type { PostedWrite } from 'kvm-core'

import type { UnknownCommand } from '../chipset/unknown-command.ts'
import { AddressSpace } from './address-space.ts'

// The compiler knows a module's own constants; those of another it would load and check for each exit.
const REASON_IO = ExitReason.Io
const REASON_MMIO = ExitReason.Mmio
/** `KVM_RUN_X86_SMM`. */
const RUN_SMM = 1
const {
  exitReason: AT_REASON,
  ioDirection: AT_DIRECTION,
  ioSize: AT_SIZE,
  ioPort: AT_PORT,
  ioCount: AT_COUNT,
  ioDataOffset: AT_DATA_OFFSET,
  mmioPhysAddr: AT_ADDRESS,
  mmioData: AT_DATA,
  mmioLen: AT_LENGTH,
  mmioIsWrite: AT_IS_WRITE,
  flags: AT_FLAGS,
} = KVM_RUN

/**
 * Both address spaces of the machine, and the step from an exit page to device calls.
 *
 * `dispatch` serves the two exits that carry a device access. It works on the page in place and
 * allocates nothing after the first exit of a vCPU.
 */
export class Bus {
  readonly pio: AddressSpace = new AddressSpace('port')
  readonly mmio: AddressSpace = new AddressSpace('memory')
  /** Told of what guests ask of devices and these do not have; absent where nobody listens. */
  onUnknown?: (message: string) => void
  /** The processor whose access was served last: a device may answer it alone. */
  vcpu = 0
  #views: DataView[] = []
  #bytes: Uint8Array[] = []

  /** For a device to tell with. */
  unknownOf(device: string): UnknownCommand {
    return (what, code) =>
      this.onUnknown?.(`${device}: ${what} 0x${code.toString(16)} is not implemented`)
  }

  /**
   * Serves an `Io` or `Mmio` exit. Returns false for every other exit reason. Throws
   * `E_DEVICE_FAULT` when the device throws; reads then have been answered with all-ones.
   */
  dispatch(run: ArrayBuffer, vcpuIndex: number): boolean {
    const view = this.#view(run, vcpuIndex)
    this.vcpu = vcpuIndex
    switch (view.getUint32(AT_REASON, true)) {
      case REASON_IO:
        this.#io(view, vcpuIndex)
        return true
      case REASON_MMIO:
        this.#mmio(view)
        return true
      default:
        return false
    }
  }

  /** Serves a write for which the guest did not wait. Throws `E_DEVICE_FAULT` when the device throws. */
  posted({ space, addr, size, value, high }: PostedWrite): void {
    const to = space === 'mmio' ? this.mmio : this.pio
    if (size <= 4) writeParts(to, addr, size, value)
    else {
      writeParts(to, addr, 4, value)
      writeParts(to, addr + 4, size - 4, high)
    }
  }

  /** That processor was in system management mode. */
  get isFromSmm(): boolean {
    return ((this.#views[this.vcpu]?.getUint16(AT_FLAGS, true) ?? 0) & RUN_SMM) !== 0
  }

  /** The exit reason in a vCPU's page. */
  exitReason(run: ArrayBuffer, vcpuIndex: number): number {
    return this.#view(run, vcpuIndex).getUint32(AT_REASON, true)
  }

  /** Names the device that the access in the page goes to, for logs. */
  describe(run: ArrayBuffer, vcpuIndex: number): string {
    const view = this.#view(run, vcpuIndex)
    if (view.getUint32(AT_REASON, true) === REASON_IO) {
      return this.pio.nameAt(view.getUint16(AT_PORT, true))
    }
    return this.mmio.nameAt(mmioAddress(view))
  }

  #view(run: ArrayBuffer, vcpuIndex: number): DataView {
    let view = this.#views[vcpuIndex]
    if (view === undefined || view.buffer !== run) {
      view = new DataView(run)
      this.#views[vcpuIndex] = view
    }
    return view
  }

  #bytesOf(view: DataView, vcpuIndex: number): Uint8Array {
    let bytes = this.#bytes[vcpuIndex]
    if (bytes === undefined || bytes.buffer !== view.buffer) {
      bytes = new Uint8Array(view.buffer)
      this.#bytes[vcpuIndex] = bytes
    }
    return bytes
  }

  #io(view: DataView, vcpuIndex: number): void {
    const size = view.getUint8(AT_SIZE)
    const port = view.getUint16(AT_PORT, true)
    const count = view.getUint32(AT_COUNT, true)
    const start = view.getUint32(AT_DATA_OFFSET, true)
    const isOut = view.getUint8(AT_DIRECTION) === 1
    const end = start + count * size
    if (!isOut) fillOnes(view, start, end)
    if (count !== 1) {
      const bytes = this.#bytesOf(view, vcpuIndex)
      if (isOut) this.pio.writeString(port, size, bytes, start, end)
      else this.pio.readString(port, size, bytes, start, end)
    } else if (isOut) this.pio.write(port, size, load(view, start, size))
    else store(view, start, size, this.pio.read(port, size))
  }

  #mmio(view: DataView): void {
    const address = mmioAddress(view)
    const length = view.getUint32(AT_LENGTH, true)
    const isWrite = view.getUint8(AT_IS_WRITE) === 1
    const start = AT_DATA
    if (!isWrite) fillOnes(view, start, start + 8)
    // Device values are numbers, so 8 bytes become two accesses, low half first. Odd lengths come
    // from accesses that straddle pages: take the largest power of two that still fits.
    for (let done = 0; done < length;) {
      const left = length - done
      const size = left >= 4 ? 4 : left >= 2 ? 2 : 1
      if (isWrite) this.mmio.write(address + done, size, load(view, start + done, size))
      else store(view, start + done, size, this.mmio.read(address + done, size))
      done += size
    }
  }
}

/** One write of 1 to 4 bytes, as those that devices know. */
function writeParts(to: AddressSpace, address: number, length: number, value: number): void {
  for (let done = 0; done < length;) {
    const left = length - done
    const size = left >= 4 ? 4 : left >= 2 ? 2 : 1
    to.write(
      address + done,
      size,
      (value >>> (done * 8)) & (size === 4 ? -1 : (1 << (size * 8)) - 1),
    )
    done += size
  }
}

function mmioAddress(view: DataView): number {
  return view.getUint32(AT_ADDRESS + 4, true) * 0x1_0000_0000 + view.getUint32(AT_ADDRESS, true)
}

function load(view: DataView, at: number, size: number): number {
  if (size === 1) return view.getUint8(at)
  if (size === 2) return view.getUint16(at, true)
  return view.getUint32(at, true)
}

function store(view: DataView, at: number, size: number, value: number): void {
  if (size === 1) view.setUint8(at, value)
  else if (size === 2) view.setUint16(at, value, true)
  else view.setUint32(at, value, true)
}

// A handler that throws must not leave bytes of an earlier exit for the guest to read.
function fillOnes(view: DataView, start: number, end: number): void {
  for (let at = start; at < end; at++) view.setUint8(at, 0xff)
}
