// Writes the reference of the command line: node --import tsx src/cli/write-docs.ts
import { writeFileSync } from 'node:fs'
import { helpPages } from './help.ts'
import { OPTION_GROUPS } from './registry.ts'

for (const [name, text] of helpPages(OPTION_GROUPS)) {
  writeFileSync(new URL(`../../../../docs/${name}`, import.meta.url), text)
}
