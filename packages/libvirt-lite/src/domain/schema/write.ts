import {
  escapeAttribute,
  escapeText,
  printInline,
  printLines,
  printVerbatim,
} from '../../xml/print.ts'
import type { XmlAttribute, XmlElement } from '../../xml/node.ts'
import { attributesFor, lookupOf } from './lookup.ts'
import type { ChildSpec, ElementSpec, Model, ScalarValue } from './types.ts'

/** What of a definition is written. */
export interface WriteOptions {
  /** Passwords as well. */
  secure?: boolean
  /** What only a running domain has. */
  live?: boolean
}

/**
 * Writes an object by the schema of its element, as libvirt prints it: the schema gives the order, two spaces the depth.
 *
 * It is written at once, without a tree between: that would cost a definition as much as the rest of it.
 *
 * @param more attributes behind those of the model
 */
export function writeDocument(
  model: Model,
  spec: ElementSpec,
  options: WriteOptions,
  more: readonly XmlAttribute[] = [],
): string {
  const lines: string[] = []
  writeElement(model, { ...spec, keepEmpty: true }, '', options, lines, more)
  return `${lines.join('\n')}\n`
}

function writeElement(
  model: Model,
  spec: ElementSpec,
  indent: string,
  options: WriteOptions,
  lines: string[],
  more: readonly XmlAttribute[] = [],
): void {
  const { name } = spec
  const start = startOf(model, spec, options, more)
  const unknown = (model['unknown'] ?? []) as readonly XmlElement[]
  const text = textOf(model, spec)
  if (text !== '') {
    // What is beside text is in its line.
    const beside: string[] = []
    for (const child of childrenIn(model, spec)) writeChild(model, child, '', options, beside)
    const inside = [text, ...beside.map((line) => line.trimStart()), ...unknown.map(printInline)]
    lines.push(`${indent}${start}>${inside.join('')}</${name}>`)
    return
  }
  const at = lines.push(start) - 1
  const deeper = `${indent}  `
  if (spec.children.length > 0) {
    for (const child of childrenIn(model, spec)) writeChild(model, child, deeper, options, lines)
  }
  for (const child of unknown) lines.push(deeper + printVerbatim(child, deeper))
  if (lines.length > at + 1) {
    lines[at] = `${indent}${start}>`
    lines.push(`${indent}</${name}>`)
  } else if (spec.keepEmpty || start.length > name.length + 1) lines[at] = `${indent}${start}/>`
  else lines.pop()
}

/** The start tag without its end. */
function startOf(
  model: Model,
  spec: ElementSpec,
  options: WriteOptions,
  more: readonly XmlAttribute[],
): string {
  let start = `<${spec.name}`
  for (const { name, key, type, secret, live } of attributesFor(spec, model['type']).all) {
    const value = model[key]
    if (value === undefined || (secret && !options.secure) || (live && !options.live)) continue
    start += ` ${name}='${escapeAttribute(type.format(value as ScalarValue))}'`
  }
  const unknown = (model['unknownAttributes'] ?? []) as readonly XmlAttribute[]
  for (const { name, value } of unknown) start += ` ${name}='${escapeAttribute(value)}'`
  for (const { name, value } of more) start += ` ${name}='${escapeAttribute(value)}'`
  return start
}

function textOf(model: Model, spec: ElementSpec): string {
  if (spec.text === undefined || model['value'] === undefined) return ''
  return escapeText(spec.text.format(model['value'] as ScalarValue))
}

/** What of an element's children a model may have, in the order in which they are written. */
function childrenIn(model: Model, spec: ElementSpec): readonly ChildSpec[] {
  const { order } = lookupOf(spec)
  const there: { place: number; spec: ChildSpec }[] = []
  for (const key in model) {
    const child = order.get(key)
    if (child !== undefined) there.push(child)
  }
  return there.toSorted((a, b) => a.place - b.place).map(({ spec }) => spec)
}

/** Writes what a model has of a child. */
function writeChild(
  model: Model,
  spec: ChildSpec,
  indent: string,
  options: WriteOptions,
  lines: string[],
): void {
  const value = model[spec.key]
  if (value === undefined) return
  switch (spec.kind) {
    case 'one':
    case 'many':
      if (spec.live && !options.live) return
      for (const item of (Array.isArray(value) ? value : [value]) as Model[]) {
        writeElement(item, spec.element, indent, options, lines)
      }
      return
    case 'flag':
      if (value === true) lines.push(`${indent}<${spec.name}/>`)
      return
    case 'text': {
      if ((spec.secret && !options.secure) || (spec.live && !options.live)) return
      const text = escapeText(spec.type.format(value as ScalarValue))
      lines.push(`${indent}<${spec.name}>${text}</${spec.name}>`)
      return
    }
    case 'raw': {
      const kept = value as XmlElement
      if (spec.verbatim) {
        // Text between the elements has no meaning here, and would put all on one line.
        const children = kept.children.filter(({ kind }) => kind !== 'text')
        lines.push(indent + printVerbatim({ ...kept, children }, indent))
      } else if (kept.attributes.length > 0 || kept.children.length > 0) {
        printLines(kept, indent, lines)
      }
    }
  }
}
