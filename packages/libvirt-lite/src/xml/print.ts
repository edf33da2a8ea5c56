import type { XmlElement, XmlNode } from './node.ts'

/**
 * Writes a tree the way libvirt does: two spaces of indentation, single quotes, `<x/>` for what is
 * empty. An element with text in it stays on one line.
 */
export function printXml(root: XmlElement): string {
  const lines: string[] = []
  printLines(root, '', lines)
  return `${lines.join('\n')}\n`
}

/**
 * Writes a tree the way libxml2 does, which libvirt uses for what it keeps as it is (metadata):
 * double quotes, and no line breaks where there is text between the elements.
 *
 * @param indent spaces before the first line's children, which are two further in
 */
export function printVerbatim(root: XmlElement, indent: string = ''): string {
  return verbatim(root, indent, true)
}

/** The same from some depth on, line by line. */
export function printLines(node: XmlElement, indent: string, lines: string[]): void {
  const start = startOf(node)
  if (node.children.length === 0) {
    lines.push(`${indent}${start}/>`)
  } else if (node.children.some(({ kind }) => kind === 'text')) {
    lines.push(`${indent}${start}>${inside(node)}</${node.name}>`)
  } else {
    lines.push(`${indent}${start}>`)
    for (const child of node.children) {
      if (child.kind === 'element') printLines(child, `${indent}  `, lines)
      else lines.push(`${indent}  ${printInline(child)}`)
    }
    lines.push(`${indent}</${node.name}>`)
  }
}

/** A start tag without its end. */
function startOf({ name, attributes }: XmlElement): string {
  let start = `<${name}`
  for (const { name, value } of attributes) start += ` ${name}='${escapeAttribute(value)}'`
  return start
}

function inside({ children }: XmlElement): string {
  let text = ''
  for (const child of children) text += printInline(child)
  return text
}

/**
 * A node in the line that others are in. Of what libvirt itself writes only text can be in a line with others, so its quotes
 * hold here as well.
 */
export function printInline(node: XmlNode): string {
  if (node.kind === 'text') return node.cdata ? cdata(node.text) : escapeText(node.text)
  if (node.kind === 'comment') return `<!--${node.text}-->`
  const start = startOf(node)
  if (node.children.length === 0) return `${start}/>`
  return `${start}>${inside(node)}</${node.name}>`
}

function verbatim(node: XmlNode, indent: string, format: boolean): string {
  if (node.kind === 'comment') return `<!--${node.text}-->`
  if (node.kind === 'text') {
    return node.cdata ? cdata(node.text) : escapeVerbatimText(node.text)
  }
  const attributes = node.attributes.map(
    ({ name, value }) => ` ${name}="${escapeVerbatimAttribute(value)}"`,
  )
  const start = `<${node.name}${attributes.join('')}`
  if (node.children.length === 0) return `${start}/>`
  const broken = format && !node.children.some(({ kind }) => kind === 'text')
  const deeper = `${indent}  `
  const inside = node.children.map((child) => verbatim(child, deeper, broken))
  return broken
    ? `${start}>\n${inside.map((line) => deeper + line).join('\n')}\n${indent}</${node.name}>`
    : `${start}>${inside.join('')}</${node.name}>`
}

/** A section ends at the first `]]>`, so one in the text begins another section. */
function cdata(text: string): string {
  return `<![CDATA[${text.replaceAll(']]>', ']]]]><![CDATA[>')}]]>`
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
  // Readers turn these into spaces or line feeds unless they are written as references.
  '\t': '&#9;',
  '\n': '&#10;',
  '\r': '&#13;',
}

/** Most texts have nothing to replace, and are found to have nothing sooner than replaced. */
const replace = (text: string, pattern: RegExp) =>
  text.search(pattern) < 0
    ? text
    : text.replaceAll(pattern, (character) => entities[character] ?? character)

/** Text as libvirt escapes it, quotes included. */
export function escapeText(text: string): string {
  return replace(text, /[&<>"'\r]/g)
}

/** The value of an attribute in either kind of quotes. */
export function escapeAttribute(text: string): string {
  return replace(text, /[&<>"'\t\n\r]/g)
}

function escapeVerbatimText(text: string): string {
  return replace(text, /[&<>\r]/g)
}

function escapeVerbatimAttribute(text: string): string {
  return replace(text, /[&<>"\t\n\r]/g)
}
