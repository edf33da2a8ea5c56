// Runs benchmarks: all of src/benchmarks, or those named. The last line of each is one line of JSON.
//   npm run bench -- [NAME...] [--quick] [--items=ITEM,...]
import { readdirSync } from 'node:fs'
import type { Benchmark } from './lib/benchmark.ts'
import { settled } from './lib/settled.ts'
import { surroundings } from './lib/surroundings.ts'

const folder = new URL('benchmarks/', import.meta.url)

async function discover(): Promise<Benchmark[]> {
  const files = readdirSync(folder).filter((file) => file.endsWith('.ts'))
  const modules = await Promise.all(
    files.toSorted().map(async (file) => {
      const module = (await import(new URL(file, folder).href)) as Partial<Benchmark>
      if (typeof module.name !== 'string' || typeof module.run !== 'function') {
        throw new TypeError(`benchmarks/${file} does not export name and run`)
      }
      return { name: module.name, run: module.run }
    }),
  )
  return modules
}

const usage = 'usage: npm run bench -- [NAME...] [--quick] [--items=ITEM,...]\n'

async function main(args: readonly string[]): Promise<number> {
  const options = args.filter((arg) => arg.startsWith('-'))
  const names = args.filter((arg) => !arg.startsWith('-'))
  const itemsOption = options.find((option) => option.startsWith('--items='))
  const unknownOption = options.find((option) => option !== '--quick' && option !== itemsOption)
  const benchmarks = await discover()
  const unknownName = names.find((name) => !benchmarks.some((item) => item.name === name))
  const unknown = unknownOption ?? unknownName
  if (unknown !== undefined) {
    process.stderr.write(`unknown: ${unknown}\n${usage}`)
    process.stderr.write(`names: ${benchmarks.map((item) => item.name).join(', ')}\n`)
    return 2
  }
  const quick = options.includes('--quick')
  const items = itemsOption?.slice('--items='.length).split(',') ?? []
  await settled()
  let failed = 0
  for (const { name, run } of benchmarks) {
    if (names.length > 0 && !names.includes(name)) continue
    process.stderr.write(`== ${name}\n`)
    try {
      const results = await run({ quick, items })
      if (results['failures'] !== undefined) failed++
      process.stdout.write(`${JSON.stringify({ name, ...results, ...surroundings(quick) })}\n`)
    } catch (error) {
      failed++
      process.stderr.write(`${name} failed: ${error instanceof Error ? error.stack : error}\n`)
    }
  }
  return failed === 0 ? 0 : 1
}

// A user's own settings of Node.js are not what is measured: certificates alone cost each start of a program 50 ms.
for (const name of ['NODE_OPTIONS', 'NODE_EXTRA_CA_CERTS']) delete process.env[name]

process.exitCode = await main(process.argv.slice(2))
