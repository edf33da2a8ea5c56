import { domain } from '../schema/domain.ts'
import type { ElementSpec, Model } from '../schema/types.ts'
import type { DomainDefinition } from '../generated/model.ts'
import type { XmlAttribute, XmlElement } from '../../xml/index.ts'
import { childName } from '../schema/lookup.ts'
import { didYouMean } from '../../xml/suggest.ts'
import { notYet } from './command.ts'

/** Refuses elements and attributes that were kept although nobody knows them. */
export function refuseUnknown(def: DomainDefinition): void {
  visit(def as unknown as Model, domain, '/domain')
}

function visit(model: Model, spec: ElementSpec, path: string): void {
  const [attribute] = (model['unknownAttributes'] ?? []) as XmlAttribute[]
  if (attribute !== undefined) {
    const names = spec.attributes.map(({ name }) => name)
    throw notYet(
      `${path}/@${attribute.name}`,
      `there is no such attribute${didYouMean(attribute.name, names)}`,
    )
  }
  const [element] = (model['unknown'] ?? []) as XmlElement[]
  if (element !== undefined) {
    const names = spec.children.map((child) => childName(child))
    throw notYet(
      `${path}/${element.name}`,
      `there is no such element${didYouMean(element.name, names)}`,
    )
  }
  for (const child of spec.children) {
    const value = model[child.key]
    if (!('element' in child) || value === undefined) continue
    const below = `${path}/${child.element.name}`
    if (Array.isArray(value)) {
      for (const [index, item] of (value as Model[]).entries()) {
        visit(item, child.element, `${below}[${index + 1}]`)
      }
    } else visit(value as Model, child.element, below)
  }
}
