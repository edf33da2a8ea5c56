import { readFileSync, readdirSync } from 'node:fs'
import test from 'ava'
import { XmlError, formatDomain, parseDomain } from '../src/domain/index.ts'
import { documents } from './support/documents.ts'
import { Libvirtd, missing, qemu, qemuMachines, schemaErrors } from './support/libvirtd.ts'

const folder = new URL('corpus/', import.meta.url)
const corpus = readdirSync(folder)
  .filter((file) => file.endsWith('.xml'))
  .map((file) => ({
    name: file.replace('.xml', ''),
    xml: readFileSync(new URL(file, folder), 'utf8'),
  }))
const all = [...corpus, ...documents(220)]

/** What is made up at random, by the order in which it comes. */
function mask(text: string, source: string): string {
  const given = source.toLowerCase()
  let cards = 0
  return (
    text
      .replace(/<uuid>(.*?)<\/uuid>/, (whole, uuid: string) =>
        given.includes(uuid) ? whole : '<uuid/>',
      )
      .replaceAll(/<mac address='(.*?)'/g, (whole, mac: string) =>
        given.includes(mac) ? whole : `<mac address='${cards++}'`,
      )
      // libvirt writes an empty element that can have children over two lines.
      .replaceAll(/<(\w+)( [^<>]*)?>\s*<\/\1>/g, '<$1$2/>')
  )
}

function firstDifference(ours: string, theirs: string): string {
  const a = ours.split('\n')
  const b = theirs.split('\n')
  const line = a.findIndex((text, index) => text !== b[index])
  return `line ${line + 1}: ours ${a[line]?.trim()} | theirs ${b[line]?.trim()}`
}

const absent = missing()
if (absent === undefined) {
  const peer = new Libvirtd()
  test.before(() => peer.start())
  test.after.always(() => peer.stop())

  test('definitions become what libvirtd makes of them', (t) => {
    const machines = qemuMachines()
    const different: string[] = []
    const written: { name: string; xml: string }[] = []
    let same = 0
    let refused = 0
    for (const { name, xml } of all) {
      const theirs = peer.define(xml, name, '--inactive')
      let ours: { xml: string } | { error: string }
      try {
        const def = parseDomain(xml, { emulator: qemu, machines, stateDir: peer.stateDir })
        ours = { xml: formatDomain(def) }
      } catch (error) {
        if (!(error instanceof XmlError)) throw error
        ours = { error: error.message }
      }
      if ('error' in theirs || 'error' in ours) {
        if ('error' in theirs && 'error' in ours) refused++
        else
          different.push(
            `${name}: ours ${JSON.stringify(ours).slice(0, 300)} | theirs ${JSON.stringify(theirs).slice(0, 300)}`,
          )
        continue
      }
      const [a, b] = [mask(ours.xml, xml), mask(theirs.xml, xml)]
      written.push({ name, xml: ours.xml })
      if (a === b) same++
      else different.push(`${name}: ${firstDifference(a, b)}`)
    }
    t.log(`${same} the same, ${refused} refused by both, ${different.length} different`)
    t.deepEqual(different, [])
    const invalid = schemaErrors(written, peer.folder)
    if (invalid === undefined) t.log('not validated: xmllint or the schema of libvirt is not there')
    t.deepEqual(invalid ?? [], [])
    t.true(same >= 200)
  })

  test('what goes to another host is what libvirtd would send', (t) => {
    const machines = qemuMachines()
    const different = all.slice(0, 60).flatMap(({ name, xml }) => {
      const theirs = peer.define(xml, name, '--migratable')
      if ('error' in theirs) return []
      const def = parseDomain(xml, { emulator: qemu, machines, stateDir: peer.stateDir })
      const [a, b] = [mask(formatDomain(def, { migratable: true }), xml), mask(theirs.xml, xml)]
      return a === b ? [] : [`${name}: ${firstDifference(a, b)}`]
    })
    t.deepEqual(different, [])
  })
} else {
  test('definitions become what libvirtd makes of them', (t) => {
    t.log(`not compared: ${absent} is not there`)
    for (const { xml } of all) {
      try {
        const once = formatDomain(
          parseDomain(xml, {
            machines: [
              { name: 'pc-i440fx-7.2', alias: 'pc' },
              { name: 'pc-q35-7.2', alias: 'q35' },
              { name: 'pc-q35-7.1' },
            ],
          }),
        )
        t.true(once.startsWith('<domain '))
      } catch (error) {
        t.true(error instanceof XmlError, String(error))
      }
    }
  })
}
