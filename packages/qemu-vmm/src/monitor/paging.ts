import type { MonitorCommand, MonitoredMachine } from './command.ts'
import { controlRegisters } from './registers.ts'
import type { ControlRegisters } from './registers.ts'

const CR0_PG = 1n << 31n
const CR4_PSE = 1n << 4n
const CR4_PAE = 1n << 5n
const CR4_LA57 = 1n << 12n
const EFER_LMA = 1n << 10n
const PTE_PRESENT = 1n
const PTE_WRITE = 1n << 1n
const PTE_USER = 1n << 2n
const PTE_LARGE = 1n << 7n
const PTE_NX = 1n << 63n
const PHYSICAL = (1n << 52n) - 1n
/** What `info tlb` shows of an entry, from the left (Intel SDM 3A, 4.5). */
const FLAGS: readonly (readonly [bigint, string])[] = [
  [PTE_NX, 'X'],
  [1n << 8n, 'G'],
  [PTE_LARGE, 'P'],
  [1n << 6n, 'D'],
  [1n << 5n, 'A'],
  [1n << 4n, 'C'],
  [1n << 3n, 'T'],
  [PTE_USER, 'U'],
  [PTE_WRITE, 'W'],
]
const PAGE_BYTES = 4096
/** Tables may refer to themselves: the mappings of a guest have no end. */
const MAX_TABLES = 4096
const MAX_PAGES = 1 << 17

/** How page tables are built in a mode of the processor. */
interface Mode {
  /** Bytes of an entry. */
  entry: 4 | 8
  /** Bits of the address that each level translates, the root first. */
  levels: readonly number[]
  /** Levels, counted from the last, whose entries may be pages. */
  large: number
  /** Addresses are extended by their highest bit. */
  isCanonical: boolean
}

interface Page {
  address: bigint
  size: bigint
  entry: bigint
  /** What all levels allow. */
  rights: bigint
}

/** The words after `info` for what the first processor has mapped. */
export const PAGING_INFO: readonly MonitorCommand[] = [
  {
    name: 'mem',
    params: '',
    help: 'show the ranges of addresses that the first processor has mapped, with their rights',
    maxArgs: 0,
    run: ({ machine }) => show(machine, ranges),
  },
  {
    name: 'tlb',
    params: '',
    help: 'show the pages that the first processor has mapped',
    maxArgs: 0,
    run: ({ machine }) => show(machine, (pages) => pages.map(pageText).join('')),
  },
]

async function show(
  machine: Pick<MonitoredMachine, 'cpus' | 'manage'>,
  format: (pages: readonly Page[], digits: number) => string,
): Promise<string> {
  const [cpu] = await machine.cpus()
  if (cpu === undefined) return 'No CPU available\n'
  const registers = controlRegisters(cpu)
  const mode = modeOf(registers)
  if (mode === undefined) return 'PG disabled\n'
  const walk = new Walk(machine, mode)
  await walk.from(registers.cr3)
  const note = walk.isCut
    ? `the rest is left out: at most ${MAX_TABLES} tables and ${MAX_PAGES} pages are shown\n`
    : ''
  return format(walk.pages, mode.entry * 2) + note
}

function modeOf({ cr0, cr4, efer }: ControlRegisters): Mode | undefined {
  if ((cr0 & CR0_PG) === 0n) return undefined
  if ((cr4 & CR4_PAE) === 0n) {
    const large = (cr4 & CR4_PSE) === 0n ? 0 : 1
    return { entry: 4, levels: [10, 10], large, isCanonical: false }
  }
  if ((efer & EFER_LMA) === 0n) return { entry: 8, levels: [2, 9, 9], large: 1, isCanonical: false }
  const levels = (cr4 & CR4_LA57) === 0n ? [9, 9, 9, 9] : [9, 9, 9, 9, 9]
  return { entry: 8, levels, large: 2, isCanonical: true }
}

/** Reads the tables of a processor, level by level. */
class Walk {
  readonly pages: Page[] = []
  isCut = false
  readonly #machine: Pick<MonitoredMachine, 'manage'>
  readonly #mode: Mode
  #tables = 0

  constructor(machine: Pick<MonitoredMachine, 'manage'>, mode: Mode) {
    this.#machine = machine
    this.#mode = mode
  }

  from(cr3: bigint): Promise<void> {
    // The root of PAE has four entries, and need not be at the start of a page.
    const low = this.#mode.levels[0] === 2 ? 0x1fn : 0xfffn
    return this.#table(cr3 & PHYSICAL & ~low, 0, 0n, PTE_USER | PTE_WRITE)
  }

  async #table(gpa: bigint, level: number, base: bigint, above: bigint): Promise<void> {
    if (this.#tables++ >= MAX_TABLES) {
      this.isCut = true
      return
    }
    const { entry, levels, large } = this.#mode
    const count = 1 << levels[level]!
    const bytes = await this.#machine.manage(
      'readPhysical',
      gpa,
      Math.min(count * entry, PAGE_BYTES),
    )
    if (bytes === undefined) return
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    const below = levels.slice(level + 1).reduce((sum, bits) => sum + bits, 12)
    const fromLast = levels.length - 1 - level
    const isPaeRoot = levels[0] === 2 && level === 0
    for (let i = 0; i < count && !this.isCut; i++) {
      const value =
        entry === 4 ? BigInt(view.getUint32(i * 4, true)) : view.getBigUint64(i * 8, true)
      if ((value & PTE_PRESENT) === 0n) continue
      const address = base + (BigInt(i) << BigInt(below))
      // Entries of the root of PAE have no rights.
      const rights = isPaeRoot ? above : above & value
      const isPage = fromLast === 0 || (fromLast <= large && (value & PTE_LARGE) !== 0n)
      if (this.pages.length >= MAX_PAGES) this.isCut = true
      else if (isPage) this.#page(address, 1n << BigInt(below), value, rights)
      else await this.#table(value & PHYSICAL & ~0xfffn, level + 1, address, rights)
    }
  }

  #page(at: bigint, size: bigint, entry: bigint, rights: bigint): void {
    const { isCanonical, levels } = this.#mode
    const bits = levels.reduce((sum, each) => sum + each, 12)
    const address = isCanonical ? BigInt.asUintN(64, BigInt.asIntN(bits, at)) : at
    this.pages.push({ address, size, entry, rights })
  }
}

function pageText({ address, size, entry }: Page): string {
  const flags = FLAGS.map(([bit, letter]) => ((entry & bit) === 0n ? '-' : letter)).join('')
  const target = entry & PHYSICAL & ~(size - 1n)
  return `${hex(address, 16)}: ${hex(target, 16)} ${flags}\n`
}

/** Neighbouring pages with the same rights, in one line. */
function ranges(pages: readonly Page[], digits: number): string {
  let text = ''
  let first: Page | undefined
  let end = 0n
  const finish = (): void => {
    if (first === undefined) return
    const { address, rights } = first
    const user = (rights & PTE_USER) === 0n ? '-' : 'u'
    const write = (rights & PTE_WRITE) === 0n ? '-' : 'w'
    const [from, to, size] = [address, end, end - address].map((n) => hex(n, digits))
    text += `${from}-${to} ${size} ${user}r${write}\n`
  }
  for (const page of pages) {
    if (first === undefined || page.address !== end || page.rights !== first.rights) {
      finish()
      first = page
    }
    end = page.address + page.size
  }
  finish()
  return text
}

function hex(value: bigint, digits: number): string {
  return value.toString(16).padStart(digits, '0')
}
