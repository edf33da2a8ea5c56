// Writes what follows from the schema: node --import tsx src/domain/write-generated.ts
import { writeFileSync } from 'node:fs'
import { domain } from './schema/domain.ts'
import { generateReference, generateTypes } from './schema/generate.ts'

writeFileSync(new URL('generated/model.ts', import.meta.url), generateTypes(domain))
writeFileSync(
  new URL('../../../../docs/domain-xml-reference.md', import.meta.url),
  generateReference(domain),
)
