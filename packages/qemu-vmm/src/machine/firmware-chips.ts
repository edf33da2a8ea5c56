import { IrqchipId } from 'kvm-core'
import type { GuestMemory, Vm } from 'kvm-core'

import type { ChipState } from './vcpu-state.ts'

// struct kvm_irqchip with struct kvm_pic_state behind 8 bytes.
const PIC_MASK = 8 + 2
const PIC_VECTOR = 8 + 5
const PIC_FOUR_WORDS = 8 + 13
/** Where BIOSes have put the interrupts of the two chips since the first PC. */
const VECTORS = { primary: 0x08, secondary: 0x70 } as const
/** The timer and the second chip. */
const PRIMARY_MASK = 0xfa
const SECONDARY_MASK = 0xff

// struct kvm_pit_state2: three channels of 24 bytes, flags, and words that this engine fills.
const PIT_COUNT = 0
const PIT_READ_STATE = 9
const PIT_WRITE_STATE = 10
const PIT_ACCESS = 12
const PIT_MODE = 13
const PIT_GATE = 15
const PIT_FLAGS = 72
/** `KVM_PIT_FLAGS_HPET_LEGACY`: another timer has the line. */
const PIT_FLAG_HPET = 1
const PIT_EXTRA = 76
const LOW_THEN_HIGH = 3
const RATE_GENERATOR = 2
/** The slowest rate, 18.2 Hz. */
const TIMER_COUNT = 0x1_0000

const VECTOR_COUNT = 256
const IRQS_PER_CHIP = 8
const BIOS_SEGMENT = 0xf000
/** Where BIOSes of PCs have an IRET; handlers that end an interrupt follow. */
const STUBS_OFFSET = 0xff53
export const BIOS_STUBS_GPA: number = BIOS_SEGMENT * 16 + STUBS_OFFSET

/** IRET. */
const IGNORE = [0xcf]
/** Push AX, command 0x20 to port 0x20, pop AX, IRET. */
const END_PRIMARY = [0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf]
/** The same for port 0xa0 and port 0x20. */
const END_SECONDARY = [0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf]

/**
 * The interrupt controllers as a BIOS leaves them, and with `timer` the timer. Linux sets up both
 * anew before it uses them, and an unused timer that runs costs something; other kernels may rely
 * on it.
 */
export function setFirmwareChips(vm: Vm, powerOn: ChipState, timer: boolean): void {
  const chips = [
    [IrqchipId.PicPrimary, VECTORS.primary, PRIMARY_MASK],
    [IrqchipId.PicSecondary, VECTORS.secondary, SECONDARY_MASK],
  ] as const
  for (const [id, vector, mask] of chips) {
    const state = vm.getIrqchip(id)
    state[PIC_VECTOR] = vector
    state[PIC_MASK] = mask
    state[PIC_FOUR_WORDS] = 1
    vm.setIrqchip(state)
  }
  if (!timer || powerOn.pit === undefined) return
  const pit = powerOn.pit.slice()
  const view = new DataView(pit.buffer)
  view.setUint32(PIT_COUNT, TIMER_COUNT, true)
  for (const at of [PIT_READ_STATE, PIT_WRITE_STATE, PIT_ACCESS]) view.setUint8(at, LOW_THEN_HIGH)
  view.setUint8(PIT_MODE, RATE_GENERATOR)
  view.setUint8(PIT_GATE, 1)
  // Without them counting begins now.
  pit.fill(0, PIT_EXTRA)
  vm.setPit2(pit)
}

/** Cuts the timer's interrupt off, or connects it again; it goes on counting. */
export function connectPit(vm: Vm, connected: boolean): void {
  const pit = vm.getPit2()
  const view = new DataView(pit.buffer, pit.byteOffset, pit.byteLength)
  const flags = view.getUint32(PIT_FLAGS, true) & ~PIT_FLAG_HPET
  view.setUint32(PIT_FLAGS, connected ? flags : flags | PIT_FLAG_HPET, true)
  vm.setPit2(pit)
}

/** Real-mode vectors: interrupts of the chips are acknowledged, all others ignored. */
export function writeVectors(memory: Pick<GuestMemory, 'write'>): void {
  const primary = STUBS_OFFSET + IGNORE.length
  const secondary = primary + END_PRIMARY.length
  const table = new DataView(new ArrayBuffer(VECTOR_COUNT * 4))
  for (let vector = 0; vector < VECTOR_COUNT; vector++) {
    const isOf = (first: number): boolean => vector >= first && vector < first + IRQS_PER_CHIP
    const offset = isOf(VECTORS.primary)
      ? primary
      : isOf(VECTORS.secondary)
        ? secondary
        : STUBS_OFFSET
    table.setUint16(vector * 4, offset, true)
    table.setUint16(vector * 4 + 2, BIOS_SEGMENT, true)
  }
  memory.write(0, new Uint8Array(table.buffer))
  memory.write(BIOS_STUBS_GPA, Uint8Array.from([...IGNORE, ...END_PRIMARY, ...END_SECONDARY]))
}
