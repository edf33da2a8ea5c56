// Documents of single devices and of metadata that are not what they should be: only refusals may come of them.
import test from 'ava'
import * as fc from 'fast-check'
import {
  XmlError,
  devicesOfKind,
  findDevice,
  formatDomain,
  formatRunning,
  parseDevice,
  parseDomain,
  plugOf,
  readDomain,
  readMetadata,
  replacedDevice,
  withDevice,
  withMetadata,
  withoutDevice,
} from '../src/domain/index.ts'
import type { DomainDefinition } from '../src/domain/index.ts'
import { runningOf } from '../src/driver/model.ts'

const DEVICES = [
  "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none' discard='unmap'/><source file='/a'/><target dev='vdb' bus='virtio'/><serial>s</serial><boot order='2'/></disk>",
  "<disk type='block' device='cdrom'><source dev='/dev/sr0'/><target dev='hdc' bus='ide'/><readonly/></disk>",
  "<disk type='file'><source file='/a'/><target dev='vda'/><address type='pci' domain='0x0000' bus='0x00' slot='0x09' function='0x0'/></disk>",
  "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/><model type='virtio'/><link state='down'/><alias name='ua-x'/></interface>",
  "<interface type='user'><ip address='10.1.0.0' prefix='24'/><ip family='ipv6' address='fd00::' prefix='64'/></interface>",
  "<rng model='virtio'><rate bytes='1'/><backend model='random'>/dev/urandom</backend></rng>",
  "<controller type='scsi' index='0' model='virtio-scsi'/>",
  "<memballoon model='virtio'><stats period='1'/></memballoon>",
  "<serial type='unix'><source mode='bind' path='/s'/><target port='1'/></serial>",
  "<channel type='unix'><target type='virtio' name='n'/></channel>",
  "<video><model type='vga'/></video>",
  "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><product id='0xabcd'/></source></hostdev>",
]
const VALUES = [
  "'-1'",
  "'0'",
  "'99999999999999999999'",
  "''",
  "'é'",
  "'\n'",
  "'__proto__'",
  '<a/>',
  '<disk>',
]

const bases = ['pc', 'q35'].map((machine) =>
  parseDomain(
    `<domain type='qemu'><name>x</name><memory>65536</memory><os><type machine='${machine}'>hvm</type></os>
<metadata><k:a xmlns:k='urn:k'><k:b/></k:a></metadata><devices>${DEVICES[0]}${DEVICES[3]}</devices></domain>`,
  ),
)

/** A document with some of its parts exchanged, removed or doubled. */
const mutated = fc
  .tuple(
    fc.constantFrom(...DEVICES),
    fc.array(
      fc.record({
        at: fc.double({ min: 0, max: 1, noNaN: true }),
        piece: fc.constantFrom(
          ...DEVICES.flatMap((it) => it.match(/<[^<>]+>|'[^']*'/g) ?? []),
          ...VALUES,
        ),
        how: fc.nat(3),
      }),
      { maxLength: 3 },
    ),
  )
  .map(([xml, changes]) => {
    let text = xml
    for (const { at, piece, how } of changes) {
      const parts = [...text.matchAll(/<[^<>]+\/>|'[^']*'|<\w+>/g)]
      const part = parts[Math.floor(at * (parts.length - 1))]
      if (part === undefined) continue
      const fresh = [piece, '', part[0] + part[0], part[0] + piece][how] ?? ''
      text = text.slice(0, part.index) + fresh + text.slice(part.index + part[0].length)
    }
    return text
  })

/** @returns undefined when it is refused */
function unlessRefused<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    if (error instanceof XmlError) return undefined
    throw error
  }
}

test('devices are added, found, exchanged, plugged in and removed, or refused', (t) => {
  let added = 0
  let plugged = 0
  fc.assert(
    fc.property(mutated, fc.constantFrom(...bases), fc.boolean(), (xml, base, isRunning) => {
      const before = formatDomain(base)
      const given = isRunning ? runningOf(base as DomainDefinition & { uuid: string }) : base
      const description = unlessRefused(() => parseDevice(xml))
      if (description === undefined) return
      const { key } = description
      for (const index of findDevice(given, description)) {
        withoutDevice(given, key, index)
        const again = unlessRefused(() => parseDevice(xml))
        unlessRefused(() => replacedDevice(given, index, again!, { isRunning }))
      }
      const result = unlessRefused(() => withDevice(given, description, { isRunning }))
      t.is(formatDomain(base), before)
      if (result === undefined) return
      added++
      const { definition, device } = result
      // Whole: it can be written and read again, also as what a further daemon takes over.
      formatDomain(parseDomain(formatDomain(definition)))
      const plug = unlessRefused(() =>
        plugOf(definition, key, device, { qmpSocket: '/q', stateDir: '/s' }),
      )
      if (plug !== undefined) plugged++
      t.is(formatRunning(readDomain(formatRunning(definition))), formatRunning(definition))
      const index = devicesOfKind(definition, key).indexOf(device)
      t.true(index >= 0)
      const without = withoutDevice(definition, key, index)
      t.is(devicesOfKind(without, key).length, devicesOfKind(definition, key).length - 1)
    }),
    { numRuns: 800 },
  )
  // Not all is refused, or nothing would be tested.
  t.true(added > 50, `${added}`)
  t.true(plugged > 10, `${plugged}`)
})

test('metadata is kept as it is, or refused', (t) => {
  const [base] = bases as [DomainDefinition]
  const xml = fc.oneof(
    fc.constantFrom(
      '<a/>',
      '<a>x &amp; y</a>',
      '<p:a xmlns:p="urn:p"><p:b/></p:a>',
      '<a><![CDATA[]]]]><![CDATA[>]]></a>',
    ),
    fc.string(),
    mutated,
  )
  const key = fc.oneof(
    fc.constantFrom('k', 'app', '', 'xml', 'xmlns', '1', 'a b', 'é'),
    fc.string(),
  )
  const uri = fc.oneof(fc.constantFrom('urn:k', 'http://example.org/'), fc.string({ minLength: 1 }))
  let kept = 0
  fc.assert(
    fc.property(xml, key, uri, (text, prefix, namespace) => {
      const change = { xml: text, key: prefix, uri: namespace }
      const changed = unlessRefused(() => withMetadata(structuredClone(base), change))
      if (changed === undefined || text === '') return
      // What is written can be read, and is the same then.
      const again = parseDomain(formatDomain(changed))
      t.is(formatDomain(again), formatDomain(changed))
      kept++
    }),
    { numRuns: 1000 },
  )
  t.true(kept > 20, `${kept}`)
  const set = withMetadata(structuredClone(base), { xml: '<z>1</z>', key: 'k', uri: 'urn:k' })
  t.is(readMetadata(set, 'urn:k'), '<z>1</z>')
  t.is(
    readMetadata(withMetadata(set, { xml: undefined, key: undefined, uri: 'urn:k' }), 'urn:k'),
    undefined,
  )
})
