import { readFileSync } from 'node:fs'
import test from 'ava'
import { domain } from '../src/domain/schema/domain.ts'
import { generateReference, generateTypes } from '../src/domain/schema/generate.ts'

const read = (path: string) => readFileSync(new URL(path, import.meta.url), 'utf8')

test('types and reference are those of the schema', (t) => {
  // Otherwise: node --import tsx src/domain/write-generated.ts
  t.is(read('../src/domain/generated/model.ts'), generateTypes(domain))
  t.is(read('../../../docs/domain-xml-reference.md'), generateReference(domain))
})
