import type { IoHandler, Stateful } from '../../device.ts'
import type { Bus } from '../../machine/bus.ts'
import { int, parseState, u32 } from '../../machine/state.ts'
import { PciFunction } from './function.ts'

const IDENTITY = { vendor: 0x1b36, device: 0x0005, classCode: 0x00ff00 } as const
/** BAR sizes; the access that a test counts lies in the upper half. */
const MEMORY_BYTES = 4096
const PORT_BYTES = 256

const NAMES = ['no-eventfd', 'wildcard-eventfd', 'datamatch-eventfd'] as const
const ACCESS_BYTES = 1
const MATCH = 0xfa
const NO_MATCH = 0xce

// Fields of the header that a guest reads the selected test from (docs/specs/pci-testdev of QEMU).
const AT_TEST = 0
const AT_WIDTH = 1
const AT_OFFSET = 4
const AT_DATA = 8
const AT_COUNT = 12
const AT_NAME = 16

interface Test {
  /** Where a guest writes. */
  offset: number
  /** Only this value, one byte wide, counts. */
  match: boolean
  /** An event takes a write before the device sees it. */
  event: boolean
  header: DataView
}

export interface PciTestDevState {
  /** Index of the selected test, -1 for none. */
  current: number
  count: number
}

/** QEMU's `pci-testdev`: tests that a guest selects, and that count the writes it makes. */
export class PciTestDev implements Stateful<PciTestDevState> {
  readonly fn: PciFunction
  readonly #tests: readonly Test[]
  #current = -1

  constructor(name: string, bus: Bus) {
    this.fn = new PciFunction(name, bus, IDENTITY)
    this.#tests = [
      ...createTests('mmio', MEMORY_BYTES / 2),
      ...createTests('portio', PORT_BYTES / 2),
    ]
    this.fn.addBar(0, { space: 'mmio', size: MEMORY_BYTES, handler: this.#handler(0) })
    this.fn.addBar(1, { space: 'pio', size: PORT_BYTES, handler: this.#handler(NAMES.length) })
  }

  reset(): void {
    this.#select(-1)
  }

  save(): PciTestDevState {
    const count = this.#tests[this.#current]?.header.getUint32(AT_COUNT, true) ?? 0
    return { current: this.#current, count }
  }

  load(state: PciTestDevState): void {
    const { current, count } = parseState<PciTestDevState>('pci-testdev', state, {
      current: int(-1, this.#tests.length - 1),
      count: u32,
    })
    this.#select(current)
    this.#tests[current]?.header.setUint32(AT_COUNT, count, true)
  }

  #select(test: number): void {
    this.#current = test
    this.#tests[test]?.header.setUint32(AT_COUNT, 0, true)
  }

  /** `first` is the first test that this BAR selects. The header of either kind shows in both. */
  #handler(first: number): IoHandler {
    return {
      read: (offset, size) => {
        const header = this.#tests[this.#current]?.header
        if (header === undefined || offset + size >= header.byteLength) return 0
        return header.getUint8(offset)
      },
      write: (offset, size, value) => {
        if (offset === AT_TEST) {
          this.#select(value < NAMES.length ? first + value : -1)
          return
        }
        const test = this.#tests[this.#current]
        if (test === undefined || offset !== test.offset) return
        const matches = size === ACCESS_BYTES && value === MATCH
        if (test.match && !matches) return
        // Of an event's width, and behind the BAR that the test belongs to, the event gets it.
        const isOwn = this.#current >= first && this.#current < first + NAMES.length
        if (test.event && isOwn && size === ACCESS_BYTES) return
        const { header } = test
        header.setUint32(AT_COUNT, header.getUint32(AT_COUNT, true) + 1, true)
      },
    }
  }
}

function createTests(kind: 'mmio' | 'portio', base: number): Test[] {
  const first = kind === 'mmio' ? 0 : NAMES.length
  return NAMES.map((what, i) => {
    const name = new TextEncoder().encode(`${kind}-${what}\0`)
    const header = new DataView(new ArrayBuffer(AT_NAME + name.length))
    const offset = base + (first + i) * ACCESS_BYTES
    const match = what !== 'wildcard-eventfd'
    header.setUint8(AT_TEST, first + i)
    header.setUint8(AT_WIDTH, ACCESS_BYTES)
    header.setUint32(AT_OFFSET, offset, true)
    header.setUint8(AT_DATA, match ? MATCH : NO_MATCH)
    new Uint8Array(header.buffer).set(name, AT_NAME)
    return { offset, match, event: what !== 'no-eventfd', header }
  })
}
