// Writes what follows from the schema: node --import tsx src/domain/write-generated.ts
import { writeFileSync } from 'node:fs'
import { domain } from './schema/domain.ts'
import { generateTypes } from './schema/generate.ts'

writeFileSync(new URL('generated/model.ts', import.meta.url), generateTypes(domain))
