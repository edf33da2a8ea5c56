import { readFileSync, readdirSync } from 'node:fs'
import test from 'ava'
import * as fc from 'fast-check'
import { XmlError, domainArgv, formatDomain, parseDomain } from '../src/domain/index.ts'
import { documents } from './support/documents.ts'

const folder = new URL('corpus/', import.meta.url)
const corpus = [
  ...readdirSync(folder).map((file) => readFileSync(new URL(file, folder), 'utf8')),
  ...documents(60).map(({ xml }) => xml),
]
const options = { qmpSocket: '/q', stateDir: '/s' }

/** Defines, writes, reads again and starts; only refusals may come of it. */
function tryAll(xml: string): string | undefined {
  try {
    const text = formatDomain(parseDomain(xml))
    const again = parseDomain(text)
    domainArgv(again, options)
    return text
  } catch (error) {
    if (error instanceof XmlError) return undefined
    throw error
  }
}

const around = (devices: string) =>
  `<domain type='qemu'><name>x</name><memory>65536</memory><os><type>hvm</type></os><devices>${devices}</devices></domain>`

test('documents with parts removed, doubled, exchanged and renumbered are defined or refused', (t) => {
  const pieces = [...new Set(corpus.flatMap((xml) => xml.match(/<[^<>]+>|'[^']*'|"[^"]*"/g) ?? []))]
  const values = [
    "'-1'",
    "'0'",
    "'4294967295'",
    "'99999999999999999999'",
    "''",
    "'0x'",
    "'é'",
    "'\n'",
    "'yes'",
    "'__proto__'",
  ]
  fc.assert(
    fc.property(
      fc.constantFrom(...corpus),
      fc.array(
        fc.record({
          at: fc.double({ min: 0, max: 1, noNaN: true }),
          piece: fc.constantFrom(...pieces, ...values),
          how: fc.nat(3),
        }),
        { minLength: 1, maxLength: 4 },
      ),
      (xml, changes) => {
        let text = xml
        for (const { at, piece, how } of changes) {
          const parts = [...text.matchAll(/<[^<>]+\/>|'[^']*'|"[^"]*"|<\w+>/g)]
          const part = parts[Math.floor(at * (parts.length - 1))]
          if (part === undefined) continue
          const fresh = [piece, '', part[0] + part[0], part[0] + piece][how] ?? ''
          text = text.slice(0, part.index) + fresh + text.slice(part.index + part[0].length)
        }
        tryAll(text)
      },
    ),
    { numRuns: 1500 },
  )
  t.pass()
})

test('large numbers cost no time and no memory', (t) => {
  const start = performance.now()
  for (const devices of [
    "<disk><source file='/a'/><target dev='sdzzzz' bus='scsi'/></disk>",
    "<disk><source file='/a'/><target dev='sda' bus='scsi'/><address type='drive' controller='4294967295'/></disk>",
    "<channel type='pty'><target type='virtio' name='a'/><address type='virtio-serial' controller='4294967295' port='1'/></channel>",
    "<controller type='usb' model='qemu-xhci' ports='4294967295'/><input type='tablet'/>",
    "<controller type='pci' index='4294967295' model='pci-bridge'/>",
    "<memory model='dimm'><target><size unit='EiB'>9007199254740991</size></target></memory>",
    '<disk/>'.repeat(100_000),
    "<serial type='pty'/>".repeat(100_000),
  ]) {
    t.throws(() => parseDomain(around(devices)), { instanceOf: XmlError })
  }
  const disks = Array.from({ length: 2000 }, (_, i) => {
    const letters = [i / 676, i / 26, i].map((n) => String.fromCodePoint(97 + (Math.floor(n) % 26)))
    return `<disk><source file='/a'/><target dev='vd${letters.join('')}'/></disk>`
  })
  t.is(tryAll(around(disks.join(''))), undefined)
  t.true(performance.now() - start < 30_000)
})

test('names of properties of objects are only names', (t) => {
  const xml = around("<__proto__ a='b'/><constructor/>").replace(
    '<name>',
    "<toString/><name hasOwnProperty='1'>",
  )
  t.throws(() => parseDomain(xml.replace("<domain type='qemu'>", "<domain type='constructor'>")), {
    instanceOf: XmlError,
  })
  const text = formatDomain(parseDomain(around("<__proto__ a='b'/>")))
  t.regex(text, /<__proto__ a="b"\/>/)
  t.is(({} as Record<string, unknown>)['a'], undefined)
})
