import { XmlError } from '../xml/index.ts'
import type { Position, XmlAttribute, XmlElement } from '../xml/index.ts'
import { didYouMean } from '../xml/suggest.ts'
import type { DomainDefinition } from './generated/model.ts'
import { domain } from './schema/domain.ts'
import { childName } from './schema/lookup.ts'
import { originOf } from './schema/position.ts'
import type { ElementSpec, Model } from './schema/types.ts'

/** An element or attribute that was kept although nobody knows it. */
export interface UnknownPart {
  path: string
  position: Position | undefined
  /** That there is none, and what may have been meant. */
  message: string
}

/** The first part of a definition that nobody here knows. */
export function findUnknown(def: DomainDefinition): UnknownPart | undefined {
  return visit(def as unknown as Model, domain, '/domain', new Set())
}

const words = (text: string): string[] => text.trim().split(/\s+/)

/**
 * Elements, and attributes with `@`, that libvirt 9.0 has and that are kept here without a look: containers, Xen, encryption of
 * memory, caches of processors, ports of passt.
 */
const ELSEWHERE: ReadonlySet<string> = new Set([
  ...words(`cachetune memorytune monitor cbitpos reducedPhysBits session dhCert deprecation property override e820_host
    frontend initarg initdir initenv initgroup inituser shareipc sharenet shareuts cipher ivgen metadata_cache max_size
    mirror microcode signature svm vmx nonpae parentaddr portForward range route zpci datacenterpath maxpagesize
    inactiveDomain counter add del permissions`),
  ...words(`@behavior @capability @classID @clientName @connectPorts @connectionid @cssid @devno @end @exactName @exclude
    @fdgroup @fid @gateway @hash @job @kernelHashes @logFile @macTableManager @metric @missing @netmask
    @parent_fabric_wwn @parent_wwnn @parent_wwpn @portgroupid @proto @ready @reg @scaling @slave @speed @ssid @stepping
    @switchid @tlsHostname @to @unique_id @wwnn`),
])

/**
 * Refuses a definition with a part that nobody knows, as libvirt does when it is to compare documents with its schema.
 *
 * @throws XmlError (92, XML_INVALID_SCHEMA)
 */
export function checkKnown(def: DomainDefinition): void {
  const unknown = visit(def as unknown as Model, domain, '/domain', ELSEWHERE)
  if (unknown === undefined) return
  const { message, path, position } = unknown
  const fields = { path, ...(position === undefined ? {} : { position }) }
  throw new XmlError(message, fields, 'E_XML_INVALID_SCHEMA')
}

function visit(
  model: Model,
  spec: ElementSpec,
  path: string,
  known: ReadonlySet<string>,
): UnknownPart | undefined {
  const attributes = (model['unknownAttributes'] ?? []) as XmlAttribute[]
  const attribute = attributes.find(({ name }) => !known.has(`@${name}`))
  if (attribute !== undefined) {
    const { name } = attribute
    const position = originOf(attribute)?.position
    const names = spec.attributes.map((one) => one.name)
    const message = `there is no such attribute${didYouMean(name, names)}`
    return { path: `${path}/@${name}`, position, message }
  }
  const elements = (model['unknown'] ?? []) as XmlElement[]
  const element = elements.find(({ name }) => !known.has(name))
  if (element !== undefined) {
    const { name } = element
    const position = originOf(element)?.position
    const names = spec.children.map((child) => childName(child))
    const message = `there is no such element${didYouMean(name, names)}`
    return { path: `${path}/${name}`, position, message }
  }
  for (const child of spec.children) {
    const value = model[child.key]
    if (!('element' in child) || value === undefined) continue
    const below = `${path}/${child.element.name}`
    const items = Array.isArray(value) ? (value as Model[]) : [value as Model]
    for (const [index, item] of items.entries()) {
      const at = Array.isArray(value) ? `${below}[${index + 1}]` : below
      const found = visit(item, child.element, at, known)
      if (found !== undefined) return found
    }
  }
  return undefined
}
