import { readFileSync, readdirSync } from 'node:fs'
import test from 'ava'
import { XmlError, checkKnown, parseDomain } from '../src/domain/index.ts'
import type { DomainDefinition } from '../src/domain/index.ts'
import { documents } from './support/documents.ts'

const folder = new URL('corpus/', import.meta.url)

test('documents that people have use no words that are not known', (t) => {
  const corpus = readdirSync(folder).map((file) => ({
    name: file,
    xml: readFileSync(new URL(file, folder), 'utf8'),
  }))
  let checked = 0
  for (const { name, xml } of [...corpus, ...documents(220)]) {
    let definition: DomainDefinition
    try {
      definition = parseDomain(xml)
    } catch (error) {
      // Some are there to be refused.
      if (error instanceof XmlError) continue
      throw error
    }
    t.notThrows(() => checkKnown(definition), name)
    checked++
  }
  t.true(checked > 150, `${checked}`)
})

test('words of libvirt that are only kept are none that are wrong', (t) => {
  const define = (inner: string): DomainDefinition =>
    parseDomain(
      `<domain type='kvm'><name>a</name><memory>65536</memory><os><type>hvm</type></os>${inner}</domain>`,
    )
  const kept = `<cputune><cachetune vcpus='0'><cache id='0' level='3' type='both' size='3' unit='MiB'/></cachetune></cputune>`
  t.notThrows(() => checkKnown(define(kept)))
  const { message } = t.throws(() => checkKnown(define(kept.replaceAll('cachetune', 'cashtune'))))!
  t.regex(message, /\/domain\/cputune\/cashtune/)
})
