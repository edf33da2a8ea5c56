import { childName } from './lookup.ts'
import type { AttributeSpec, ChildSpec, ElementSpec } from './types.ts'

/** Writes the interfaces of everything that a schema describes. */
export function generateTypes(root: ElementSpec): string {
  const names = new Map<string, string>()
  nameOf(root, '', names)
  const interfaces = [...names.values()].toSorted()
  return [
    '// @generated from the schema by src/domain/write-generated.ts',
    "import type { XmlAttribute, XmlElement } from '../../xml/index.ts'",
    '',
    '/** What a document had that the schema does not know; kept, and refused at the start. */',
    'export interface Unknown {',
    '  unknown?: XmlElement[]',
    '  unknownAttributes?: XmlAttribute[]',
    '}',
    '',
    ...interfaces,
  ].join('\n')
}

/** Gives an element's interface its name; two of the same name have to be the same. */
function nameOf(spec: ElementSpec, parent: string, names: Map<string, string>): string {
  const name = spec.typeName ?? parent + pascal(spec.name)
  // The entry comes first, as an element can be inside itself.
  const known = names.get(name)
  names.set(name, known ?? '')
  const code = known === '' ? '' : write(spec, name, names)
  if (known !== undefined && known !== '' && withoutHead(known) !== withoutHead(code)) {
    throw new Error(`two different elements are called ${name}`)
  }
  if (code !== '' && !known) names.set(name, code)
  return name
}

/** Without the first line, the comment, which elements of the same shape need not share. */
function withoutHead(code: string): string {
  return code.slice(code.indexOf('\n'))
}

function write(spec: ElementSpec, name: string, names: Map<string, string>): string {
  const cases = Object.entries(spec.cases ?? {})
  const head = `/** \`<${spec.name}>\`: ${spec.doc}. */`
  if (cases.length > 0) {
    const alternatives = cases.map(([type, attributes]) => {
      const fields = attributes.map((attribute) => `    ${attributeField(attribute)}`)
      return [`  | (Unknown & {`, `      type: '${type}'`, ...fields, `    })`].join('\n')
    })
    return `${head}\nexport type ${name} =\n${alternatives.join('\n')}\n`
  }
  const fields = [
    ...spec.attributes.map((attribute) => attributeField(attribute)),
    ...(spec.text === undefined ? [] : [`value: ${spec.text.ts}`]),
    ...spec.children.map((child) => childField(child, name, names)),
  ]
  return `${head}\nexport interface ${name} extends Unknown {\n${fields.map((field) => `  ${field}\n`).join('')}}\n`
}

function attributeField({ key, required, type }: AttributeSpec): string {
  return `${key}${required ? '' : '?'}: ${type.ts}`
}

function childField(child: ChildSpec, parent: string, names: Map<string, string>): string {
  switch (child.kind) {
    case 'one':
      return `${child.key}?: ${nameOf(child.element, parentName(parent), names)}`
    case 'many':
      return `${child.key}?: ${nameOf(child.element, parentName(parent), names)}[]`
    case 'flag':
      return `/** ${child.doc} */\n  ${child.key}?: true`
    case 'text':
      return `/** ${child.doc} */\n  ${child.key}${child.required ? '' : '?'}: ${child.type.ts}`
    case 'raw':
      return `/** ${child.doc} */\n  ${child.key}?: XmlElement`
  }
}

/** Elements directly below the document have names of their own. */
function parentName(parent: string): string {
  return parent === 'DomainDefinition' || parent === 'Devices' ? '' : parent
}

function pascal(name: string): string {
  return name
    .replace(/^.*:/, '')
    .replaceAll(/(^|[_-]+)(.)/g, (_, __, letter: string) => letter.toUpperCase())
}

/** Writes the table of everything that a schema describes, as Markdown. */
export function generateReference(root: ElementSpec): string {
  const rows: string[] = []
  describe(root, `/${root.name}`, rows, [])
  const head = [
    '<!-- @generated from the schema by packages/libvirt-lite/src/domain/write-generated.ts -->',
    '',
    '# Elements of a domain',
    '',
    'What of it can be started, and how it is completed: [Domain XML](domain-xml.md).',
    '',
  ]
  return [...head, '| element | has | what it is |', '|---|---|---|', ...rows, ''].join('\n')
}

function describe(spec: ElementSpec, path: string, rows: string[], above: ElementSpec[]): void {
  const attributes = [...spec.attributes, ...Object.values(spec.cases ?? {}).flat()]
  const named = new Map(
    attributes.map((attribute) => [attribute.name, describeAttribute(attribute)]),
  )
  const content = spec.text === undefined ? [] : [`text: ${escapeCell(spec.text.expected)}`]
  rows.push(
    `| \`${path}\` | ${[...named.values(), ...content].join('<br>')} | ${escapeCell(spec.doc)} |`,
  )
  for (const child of spec.children) {
    const below = `${path}/${childName(child)}`
    if ('element' in child) {
      if (!above.includes(child.element))
        describe(child.element, below, rows, [...above, child.element])
    } else {
      const has = child.kind === 'text' ? `text: ${escapeCell(child.type.expected)}` : ''
      rows.push(`| \`${below}\` | ${has} | ${escapeCell(child.doc)} |`)
    }
  }
}

function describeAttribute({ name, type, required, live }: AttributeSpec): string {
  const notes = [required ? 'required' : '', live ? 'of a running domain' : ''].filter(Boolean)
  const note = notes.length === 0 ? '' : ` (${notes.join(', ')})`
  return `\`@${name}\`${note}: ${escapeCell(type.expected)}`
}

function escapeCell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;')
}
