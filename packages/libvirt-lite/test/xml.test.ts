import test from 'ava'
import * as fc from 'fast-check'
import { XmlError, element, parseXml, printVerbatim, printXml } from '../src/xml/index.ts'
import type { XmlElement, XmlNode } from '../src/xml/index.ts'

/** Without what only a parsed tree has. */
function bare(node: XmlElement): XmlElement {
  const attributes = node.attributes.map(({ name, value }) => ({ name, value }))
  const children = node.children.map((child) => (child.kind === 'element' ? bare(child) : child))
  return { kind: 'element', name: node.name, attributes, children }
}

const name = fc.stringMatching(/^[a-z][a-z0-9_-]{0,7}$/).filter((name) => !name.startsWith('xml'))
/** Any text that XML 1.0 can have; a line end is one line feed after reading. */
const value = fc
  .string({ unit: 'grapheme', maxLength: 20 })
  .filter((text) => !/[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u.test(text))

const attributes = fc.dictionary(name, value, { maxKeys: 4 })

const tree: fc.Arbitrary<XmlElement> = fc.letrec<{ node: XmlElement }>((tie) => ({
  node: fc
    .tuple(
      name,
      attributes,
      fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.constant([]),
        value.map((text): XmlNode[] => (text === '' ? [] : [{ kind: 'text', text }])),
        fc.array(tie('node'), { maxLength: 4 }),
      ),
    )
    .map(([name, attributes, children]) => element(name, attributes, children as XmlNode[])),
})).node

function refusal(source: string, limits = {}): XmlError {
  try {
    parseXml(source, limits)
  } catch (error) {
    if (error instanceof XmlError) return error
    throw error
  }
  throw new Error(`it was read: ${source.slice(0, 60)}`)
}

/** Spaces that the printers add between elements. */
function withoutIndent(node: XmlElement): XmlElement {
  const elements = node.children.some(({ kind }) => kind === 'element')
  const kept = node.children.filter(
    (child) => !(elements && child.kind === 'text' && child.text.trim() === ''),
  )
  const children = kept.map((child) => (child.kind === 'element' ? withoutIndent(child) : child))
  return { ...node, children }
}

test('what is printed reads back the same', (t) => {
  fc.assert(
    fc.property(tree, (node) => {
      t.deepEqual(withoutIndent(bare(parseXml(printXml(node)))), node)
      t.deepEqual(withoutIndent(bare(parseXml(printVerbatim(node)))), node)
    }),
    { numRuns: 300 },
  )
})

test('nothing that is not XML makes the parser fail in another way', (t) => {
  const piece = fc.constantFrom(
    '<a',
    '>',
    '</a>',
    '/>',
    ' b=',
    "'",
    '"',
    '&amp;',
    '&',
    '<!--',
    '-->',
    '<![CDATA[',
    ']]>',
    '<?x',
    '?>',
    'xmlns:p="u"',
    'p:',
    '\0',
    '\uFFFF',
    '<!DOCTYPE a>',
    'text',
  )
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      try {
        parseXml(pieces.join(''))
      } catch (error) {
        t.true(error instanceof XmlError, String(error))
      }
    }),
    { numRuns: 2000 },
  )
  t.pass()
})

test('positions are those of the document', (t) => {
  const root = parseXml('<a>\n  <b c="1"\n     d="2"/>\n</a>')
  const b = root.children.find((child) => child.kind === 'element') as XmlElement
  t.deepEqual(b.position, { line: 2, column: 3 })
  t.is(b.attributes[1]?.position?.line, 3)
  t.is(refusal('<a>\n<b>\n</a>').line, 3)
})

test('a document type is refused, whatever is in it', (t) => {
  const bomb = `<!DOCTYPE d [<!ENTITY a "${'x'.repeat(100)}">${Array.from({ length: 20 }, (_, i) => `<!ENTITY b${i} "${'&a;'.repeat(50)}">`).join('')}]><d>&b19;</d>`
  const external = '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><d>&x;</d>'
  for (const source of [bomb, external, '<!DOCTYPE d SYSTEM "http://localhost/d.dtd"><d/>']) {
    t.regex(refusal(source).message, /document type/)
  }
  t.regex(refusal('<d>&x;</d>').message, /entity/)
  t.is(refusal('<d>&x;</d>').libvirtCode, 27)
})

test('length, depth and number of nodes have a limit', (t) => {
  t.regex(
    refusal(`<a>${' '.repeat(100)}</a>`, { length: 50 }).message,
    /107 characters, at most 50/,
  )
  t.regex(refusal(`${'<a>'.repeat(300)}${'</a>'.repeat(300)}`).message, /256 deep/)
  t.regex(refusal(`<a>${'<b c="d"/>'.repeat(60)}</a>`, { nodes: 100 }).message, /more than 100/)
  t.notThrows(() => parseXml(`${'<a>'.repeat(256)}${'</a>'.repeat(256)}`))
})

// What takes too long for the test to end is a failure, too.
test('ten megabytes are read or refused', (t) => {
  t.notThrows(() => parseXml(`<a><!--${'-x'.repeat(4 << 20)}--></a>`))
  t.notThrows(() => parseXml(`<a b='${'x'.repeat(9 << 20)}'/>`))
  t.regex(refusal(`<a>${'<b/>'.repeat(2 << 20)}</a>`).message, /more than 100000/)
  t.regex(refusal(`<a>${'<!---->'.repeat(1 << 20)}</a>`).message, /more than 100000/)
  t.regex(refusal(`<a>${'<![CDATA[]]>'.repeat(1 << 19)}</a>`).message, /more than 100000/)
  const many = Array.from({ length: 1 << 19 }, (_, i) => `a${i}=''`)
  t.regex(refusal(`<a ${many.join(' ')}/>`).message, /more than 100000/)
  t.regex(refusal(`<a>${'<b>'.repeat(3 << 20)}`).message, /deep/)
})

test('what a reader would change is written as a reference', (t) => {
  const node = element('a', { b: ' \t\n\r\'"<>&' }, [{ kind: 'text', text: '\r\'"<>&]]>' }])
  t.is(
    printXml(node),
    "<a b=' &#9;&#10;&#13;&apos;&quot;&lt;&gt;&amp;'>&#13;&apos;&quot;&lt;&gt;&amp;]]&gt;</a>\n",
  )
  const section = element('a', {}, [{ kind: 'text', text: 'x]]>y', cdata: true }])
  t.is(
    bare(parseXml(printXml(section)))
      .children.map((child) => 'text' in child && child.text)
      .join(''),
    'x]]>y',
  )
})
