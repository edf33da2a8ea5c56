import { XmlError, element, parseXml, printVerbatim } from '../xml/index.ts'
import type { XmlElement, XmlNode } from '../xml/index.ts'
import type { DomainDefinition } from './generated/model.ts'
import { withoutBlanks } from './schema/read.ts'

/** The prefix of a name, '' without one. */
const prefixOf = (name: string): string => name.slice(0, Math.max(0, name.indexOf(':')))
const localOf = (name: string): string => name.slice(name.indexOf(':') + 1)

/** The namespace of one of the elements directly below `<metadata>`. */
function namespaceOf({ name, attributes }: XmlElement): string {
  const prefix = prefixOf(name)
  const declaration = prefix === '' ? 'xmlns' : `xmlns:${prefix}`
  return attributes.find((attribute) => attribute.name === declaration)?.value ?? ''
}

const isElement = (node: XmlNode): node is XmlElement => node.kind === 'element'

/** What a program keeps in its namespace, without the prefix; undefined where there is nothing. */
export function readMetadata({ metadata }: DomainDefinition, uri: string): string | undefined {
  const found = (metadata as XmlElement | undefined)?.children.find(
    (child): child is XmlElement => isElement(child) && namespaceOf(child) === uri,
  )
  if (found === undefined) return undefined
  const prefix = prefixOf(found.name)
  const strip = (node: XmlNode): XmlNode => {
    if (!isElement(node)) return node
    const name = prefixOf(node.name) === prefix ? localOf(node.name) : node.name
    return { ...node, name, children: node.children.map(strip) }
  }
  const declaration = prefix === '' ? 'xmlns' : `xmlns:${prefix}`
  const attributes = found.attributes.filter(({ name }) => name !== declaration)
  return printVerbatim(strip({ ...found, attributes }) as XmlElement)
}

/** The root is to be in the namespace of the program, whose prefix stands for nothing else in the document. */
function refuseOwnNamespaces(root: XmlElement, key: string): void {
  if (prefixOf(root.name) !== '' || root.attributes.some(({ name }) => name === 'xmlns')) {
    throw new XmlError('the root element has a namespace: it gets the one that is given', {
      path: `/${root.name}`,
    })
  }
  const visit = (node: XmlNode): void => {
    if (!isElement(node)) return
    if (node.attributes.some(({ name }) => name === `xmlns:${key}`)) {
      throw new XmlError('the document has this prefix for a namespace of its own', { value: key })
    }
    for (const child of node.children) visit(child)
  }
  visit(root)
}

/**
 * Changes what a program keeps in its namespace, or removes it without `xml`. The elements get the prefix `key`.
 *
 * @throws XmlError for what is no document, and without a prefix that a name can have
 */
export function withMetadata(
  definition: DomainDefinition,
  { xml, key, uri }: { xml: string | undefined; key: string | undefined; uri: string },
): DomainDefinition {
  const metadata = (definition.metadata as XmlElement | undefined) ?? element('metadata')
  const others = metadata.children.filter(
    (child) => !isElement(child) || namespaceOf(child) !== uri,
  )
  if (xml !== undefined && xml !== '') {
    if (key === undefined || !/^[A-Za-z_][\w.-]*$/.test(key) || /^xml/i.test(key)) {
      const value = { value: key ?? '' }
      throw new XmlError('expected the prefix of a namespace, such as "app"', value)
    }
    const root = withoutBlanks(parseXml(xml))
    refuseOwnNamespaces(root, key)
    const add = (node: XmlNode): XmlNode => {
      if (!isElement(node)) return { ...node }
      const { name, attributes } = node
      return {
        kind: 'element',
        name: name.includes(':') ? name : `${key}:${name}`,
        attributes: attributes.map((attribute) => ({
          name: attribute.name,
          value: attribute.value,
        })),
        children: node.children.map(add),
      }
    }
    const added = add(root) as XmlElement
    added.attributes.unshift({ name: `xmlns:${key}`, value: uri })
    others.push(added)
  }
  if (others.some(isElement)) definition.metadata = { ...metadata, children: others }
  else delete definition.metadata
  return definition
}
