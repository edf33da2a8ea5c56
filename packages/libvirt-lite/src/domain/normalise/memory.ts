import { refusal, unsupported } from '../refuse.ts'
import { toKib, unitBytes, unitNames } from '../schema/scalars.ts'
import { didYouMean } from '../../xml/suggest.ts'
import type { DomainDefinition } from '../generated/model.ts'

interface Sized {
  unit?: string
  value: number
}

/** KiB of a size whose unit is KiB unless it says otherwise; afterwards it is in KiB. */
function normaliseSize(size: Sized): number {
  const kib = toKib(size.value, size.unit ?? 'KiB')
  if (kib === undefined) throw badUnit(size, size.unit)
  if (!Number.isSafeInteger(kib)) {
    throw refusal('is more than any machine has', { at: size, value: size.value })
  }
  size.unit = 'KiB'
  size.value = kib
  return kib
}

function badUnit(at: object, unit: string | undefined): Error {
  const value = unit ?? ''
  return refusal(`expected one of ${unitNames.join(', ')}${didYouMean(value, unitNames)}`, {
    at,
    below: '/@unit',
    value,
  })
}

/** Puts all sizes of memory in KiB, and works out what the document left open. */
export function normaliseMemory(def: DomainDefinition): void {
  for (const name of ['hardLimit', 'softLimit', 'minGuarantee', 'swapHardLimit'] as const) {
    const limit = def.memtune?.[name]
    if (limit !== undefined) normaliseSize(limit)
  }
  for (const page of def.memoryBacking?.hugepages?.pages ?? []) {
    const sized = { unit: page.unit ?? 'KiB', value: page.size }
    const kib = toKib(sized.value, sized.unit)
    if (kib === undefined) throw badUnit(page, page.unit)
    page.size = kib
    page.unit = 'KiB'
  }
  if (def.maxMemory !== undefined) normaliseSize(def.maxMemory)
  normaliseTotal(def)
  normaliseCurrent(def)
}

function normaliseTotal(def: DomainDefinition): void {
  const cells = def.cpu?.numa?.cells ?? []
  for (const [index, cell] of cells.entries()) {
    const kib = toKib(cell.memory, cell.unit ?? 'KiB')
    if (kib === undefined) throw badUnit(cell, cell.unit)
    cell.id ??= index
    cell.memory = kib
    cell.unit = 'KiB'
  }
  let modules = 0
  for (const module of def.devices?.memories ?? []) {
    const { size, block, requested, label } = module.target ?? {}
    if (size === undefined) throw refusal('is missing', { at: module, below: '/target/size' })
    modules += normaliseSize(size)
    for (const other of [block, requested, label?.size]) {
      if (other !== undefined) normaliseSize(other)
    }
    for (const other of [module.source?.pagesize, module.source?.alignsize]) {
      if (other !== undefined) normaliseSize(other)
    }
  }
  const nodes = cells.reduce((sum, { memory }) => sum + memory, 0)
  if (def.memory === undefined && nodes === 0) {
    throw refusal('is missing', { at: def, below: '/memory' })
  }
  def.memory ??= { value: 0 }
  normaliseSize(def.memory)
  // Nodes say how much there is; what <memory> has is then of no account.
  if (nodes > 0) def.memory.value = nodes + modules
  if (def.memory.value === 0) {
    throw refusal('must be more than 0', { at: def.memory, value: 0 })
  }
  if (modules > 0 && def.maxMemory === undefined) {
    throw unsupported('modules of memory need <maxMemory slots=…>', {
      at: def.devices?.memories?.[0],
    })
  }
}

function normaliseCurrent(def: DomainDefinition): void {
  const total = def.memory?.value ?? 0
  def.currentMemory ??= { value: total }
  const current = normaliseSize(def.currentMemory)
  if (current > total || current === 0) def.currentMemory.value = total
}

/** KiB that the guest starts with, without modules. */
export function initialMemoryKib(def: DomainDefinition): number {
  const cells = def.cpu?.numa?.cells ?? []
  if (cells.length > 0) return cells.reduce((sum, { memory }) => sum + memory, 0)
  const modules = (def.devices?.memories ?? []).map(({ target }) => target?.size?.value ?? 0)
  return modules.reduce((rest, size) => rest - size, def.memory?.value ?? 0)
}

/** Bytes of a size in a unit of its own, as shared memory and trim areas have. */
export function bytesOf({ unit, value }: Sized, otherwise: string): number {
  return value * (unitBytes(unit ?? otherwise) ?? Number.NaN)
}
