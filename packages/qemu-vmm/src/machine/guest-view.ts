import type { GuestMemory as VmMemory } from 'kvm-core'

import type { GuestMemory } from '../device.ts'
import { dmaWrite } from './dma.ts'

/** A view whose setters report what they wrote, so that devices cannot forget it. */
class ReportingView extends DataView<ArrayBuffer> {
  readonly #memory: VmMemory
  readonly #gpa: number

  constructor(memory: VmMemory, gpa: number, view: DataView) {
    super(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength)
    this.#memory = memory
    this.#gpa = gpa
  }

  override setInt8(at: number, value: number): void {
    super.setInt8(at, value)
    this.#report(at, 1)
  }

  override setUint8(at: number, value: number): void {
    super.setUint8(at, value)
    this.#report(at, 1)
  }

  override setInt16(at: number, value: number, littleEndian?: boolean): void {
    super.setInt16(at, value, littleEndian)
    this.#report(at, 2)
  }

  override setUint16(at: number, value: number, littleEndian?: boolean): void {
    super.setUint16(at, value, littleEndian)
    this.#report(at, 2)
  }

  override setInt32(at: number, value: number, littleEndian?: boolean): void {
    super.setInt32(at, value, littleEndian)
    this.#report(at, 4)
  }

  override setUint32(at: number, value: number, littleEndian?: boolean): void {
    super.setUint32(at, value, littleEndian)
    this.#report(at, 4)
  }

  override setFloat32(at: number, value: number, littleEndian?: boolean): void {
    super.setFloat32(at, value, littleEndian)
    this.#report(at, 4)
  }

  override setFloat64(at: number, value: number, littleEndian?: boolean): void {
    super.setFloat64(at, value, littleEndian)
    this.#report(at, 8)
  }

  override setBigInt64(at: number, value: bigint, littleEndian?: boolean): void {
    super.setBigInt64(at, value, littleEndian)
    this.#report(at, 8)
  }

  override setBigUint64(at: number, value: bigint, littleEndian?: boolean): void {
    super.setBigUint64(at, value, littleEndian)
    this.#report(at, 8)
  }

  #report(at: number, length: number): void {
    this.#memory.markWritten(this.#gpa + at, length)
  }
}

/** Guest memory as custom devices get it. */
export function deviceMemory(memory: VmMemory): GuestMemory {
  return {
    read: (gpa, target) => memory.read(gpa, target),
    write: (gpa, source) => dmaWrite(memory, gpa, source),
    view: (gpa, length) => {
      const view = memory.view(gpa, length)
      if (memory.isWritable(gpa, length)) return new ReportingView(memory, gpa, view)
      // ROM: what is written goes to a copy, and so nowhere.
      const { buffer, byteOffset } = view
      return new DataView(buffer.slice(byteOffset, byteOffset + length) as ArrayBuffer)
    },
  }
}
