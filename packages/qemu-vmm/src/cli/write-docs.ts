// Writes the reference of the command line: node --import tsx src/cli/write-docs.ts
import { writeFileSync } from 'node:fs'
import { helpMarkdown } from './help.ts'
import { OPTION_GROUPS } from './registry.ts'

writeFileSync(new URL('../../../../docs/cli.md', import.meta.url), helpMarkdown(OPTION_GROUPS))
