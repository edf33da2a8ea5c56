import { featureName, featureProperty } from '../domain/index.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import {
  XmlError,
  attributeOf,
  childElements,
  childNamed,
  element,
  parseXml,
  printXml,
  text,
  textOf,
} from '../xml/index.ts'
import type { XmlElement } from '../xml/index.ts'
import { BASE, featuresOf } from './cpu.ts'
import type { Monitor } from './cpu.ts'
import { translate } from './model.ts'

/** Most features of one. */
const MOST_FEATURES = 1024

/** A processor as a client describes it: of a host, or of a guest. */
interface Described {
  readonly model: string
  readonly vendor: string | undefined
  /** By the emulator's names, whether it has them; others are as the model says. */
  readonly features: ReadonlyMap<string, boolean>
}

/** Reads the descriptions. @throws VirtError */
export function readCpus(documents: readonly string[]): Described[] {
  if (documents.length === 0) throw wrong('no CPUs given')
  const cpus = documents.map((xml, index) => translate(() => readCpu(parseXml(xml), index)))
  const vendors = new Set(cpus.flatMap(({ vendor }) => vendor ?? []))
  if (vendors.size > 1) {
    throw new VirtError(
      ErrorCode.OPERATION_FAILED,
      `operation failed: CPU vendors do not match: ${[...vendors].join(', ')}`,
    )
  }
  return cpus
}

function readCpu(root: XmlElement, index: number): Described {
  if (root.name !== 'cpu') {
    throw new XmlError('expected the root element <cpu>', {
      path: `/${root.name}`,
      ...(root.position === undefined ? {} : { position: root.position }),
    })
  }
  const named = (name: string): string | undefined => {
    const child = childNamed(root, name)
    return child && textOf(child).trim()
  }
  const arch = named('arch')
  if (arch !== undefined && arch !== 'x86_64') {
    throw wrong(`the CPU at index ${index} is of the architecture ${arch}; only x86_64 is there`)
  }
  const model = named('model')
  if (model === undefined || model === '') throw wrong(`no CPU model specified at index ${index}`)
  const features = new Map<string, boolean>()
  for (const child of childElements(root)) {
    if (child.name !== 'feature') continue
    const name = attributeOf(child, 'name')
    if (name === undefined || name === '') throw wrong(`a feature without a name at index ${index}`)
    if (features.size >= MOST_FEATURES) throw wrong(`more than ${MOST_FEATURES} features of a CPU`)
    // That of a host is there; of a guest, one that it would take is no promise.
    const policy = attributeOf(child, 'policy') ?? 'require'
    features.set(featureProperty(name), policy === 'require' || policy === 'force')
  }
  return { model, vendor: named('vendor'), features }
}

/**
 * The processor that a guest can have on all of these hosts: one model with the features that differ from it.
 *
 * Where all are of one model it is that; where they are not, {@link BASE}, which is the same everywhere. `expand` lists what
 * the model itself has as well. Rejects with `VirtError` for a model that the emulator does not know.
 */
export async function baselineCpu(
  monitor: Monitor,
  cpus: readonly Described[],
  expand: boolean,
): Promise<string> {
  const models = new Map<string, ReadonlySet<string>>()
  for (const name of new Set([...cpus.map(({ model }) => model), BASE])) {
    models.set(name, await modelFeatures(monitor, name))
  }
  const sets = cpus.map(({ model, features }) => {
    const has = new Set(models.get(model))
    for (const [name, isOn] of features) {
      if (isOn) has.add(name)
      else has.delete(name)
    }
    return has
  })
  const [first = new Set<string>(), ...others] = sets
  const common = [...first].filter((name) => others.every((set) => set.has(name)))
  const same = cpus.every(({ model }) => model === cpus[0]!.model)
  const chosen = same ? cpus[0]!.model : BASE
  const own = models.get(chosen)!
  const kept = new Set(common)
  const required = common.filter((name) => expand || !own.has(name))
  const disabled = [...own].filter((name) => !kept.has(name))
  const line = (policy: string, name: string): XmlElement =>
    element('feature', { policy, name: featureName(name) })
  const { vendor } = cpus[0]!
  const isVendorKnown = cpus.every((cpu) => cpu.vendor === vendor)
  return printXml(
    element('cpu', { mode: 'custom', match: 'exact' }, [
      element('model', { fallback: 'forbid' }, [text(chosen)]),
      ...(vendor !== undefined && isVendorKnown ? [element('vendor', {}, [text(vendor)])] : []),
      ...required.toSorted().map((name) => line('require', name)),
      ...disabled.toSorted().map((name) => line('disable', name)),
    ]),
  )
}

async function modelFeatures(monitor: Monitor, model: string): Promise<Set<string>> {
  let all: Record<string, unknown>
  try {
    all = await featuresOf(monitor, model)
  } catch (error) {
    const why = `internal error: Unknown CPU model ${model}: ${(error as Error).message}`
    throw new VirtError(ErrorCode.INTERNAL_ERROR, why, { cause: error })
  }
  return new Set(Object.keys(all).filter((name) => all[name] === true))
}

function wrong(what: string): VirtError {
  return new VirtError(ErrorCode.INVALID_ARG, `invalid argument: ${what}`)
}
