// How the command and the thread of its devices come to their code. A script is all modules of an entry point in one file
// (scripts/bundle-scripts.mjs), and beside it V8's code cache: what V8 compiled of it in an earlier run. To read and compile a
// megabyte anew took a third of the way from the start of the process to the guest's first instruction.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { cachedDataVersionTag } from 'node:v8'
import { Script } from 'node:vm'

import { keepCode } from './keep-code.ts'

/**
 * After the first time a machine has compiled what it needs in its daily life. What it is used for comes later, perhaps: a
 * disk, a card, other registers of a device.
 */
const SETTLED_MS: readonly number[] = [8000, 64_000]
/** Code that is there already is replaced by what is larger than so many times its length. */
const GROWTH = 1.05
/** A script begins with `//` and the digest of what follows. V8 itself compares no more than the length. */
const DIGEST = /^\/\/([0-9a-f]{16})\n/

type Wrapper = (
  require: NodeJS.Require,
  module: { exports: unknown },
  exports: unknown,
  urlOf: (name: string) => string,
) => void

export interface LoadedScript {
  /** What the entry point exports. */
  readonly exports: unknown
  /** V8 took over what it had compiled earlier. */
  readonly fromCode: boolean
}

export interface LoadOptions {
  /** After so many milliseconds each what was compiled is kept. */
  settledMs?: readonly number[]
  /** What the script is used for, where different uses need different parts of it: each keeps code of its own. */
  use?: string
}

/**
 * Runs the script `name` of `folder` with what V8 compiled earlier, if that is there for this version, these flags and
 * this processor. Once the script has run for a while that is written, where the folder can be, if it was not there or
 * much more has been compiled since.
 */
export function loadScript(
  folder: string,
  name: string,
  { settledMs = SETTLED_MS, use }: LoadOptions = {},
): LoadedScript {
  const filename = join(folder, `${name}.script`)
  const source = readFileSync(filename, 'latin1')
  const digest = DIGEST.exec(source)?.[1]
  if (digest === undefined) throw new Error(`${filename} is damaged: build it again`)
  const tag = cachedDataVersionTag().toString(16)
  const what = use === undefined ? name : `${name}-${use}`
  const cache = join(folder, 'code', `${what}-${digest}-${tag}`)

  const cachedData = readCode(cache)
  const script = new Script(source, {
    filename,
    ...(cachedData && { cachedData }),
  })
  const fromCode = cachedData !== undefined && script.cachedDataRejected !== true
  let keptBytes = fromCode ? cachedData.byteLength : 0
  const keep = (): void => {
    const code = script.createCachedData()
    if (code.byteLength <= keptBytes * GROWTH) return
    keptBytes = code.byteLength
    void keepCode(cache, code)
  }
  for (const time of settledMs) setTimeout(keep, time).unref()

  const require = createRequire(filename)
  /** Where a package would be if its modules had not been joined: it finds its addon and its own files from there. */
  const urlOf = (packageName: string): string =>
    pathToFileURL(packageName === 'qemu-vmm' ? filename : require.resolve(packageName)).href
  const module = { exports: {} as unknown }
  const run = script.runInThisContext() as Wrapper
  run(require, module, module.exports, urlOf)
  return { exports: module.exports, fromCode }
}

function readCode(path: string): Buffer | undefined {
  try {
    return readFileSync(path)
  } catch {
    return undefined
  }
}
