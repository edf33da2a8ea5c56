// The programs that benchmarks and tests compare with: Debian's QEMU. Both run without it: benchmarks have no
// ratio then, and tests that compare say so and look at less.
import { fileURLToPath } from 'node:url'
import { capture, log, run, script } from './lib/run.mjs'

const program = 'qemu-system-x86_64'
const packages = ['qemu-system-x86']

/**
 * Makes sure that the peer is there, if this machine lets us.
 * @returns {Promise<string | undefined>} its version
 */
export async function peers() {
  const version = () => capture(program, ['--version'])?.split('\n')[0]
  if (version() === undefined) {
    if (process.getuid?.() !== 0 || capture('apt-get', ['--version']) === undefined) {
      log(`${program} is missing, so there is nothing to compare with. On Debian, as root:`)
      log(`  apt-get install --no-install-recommends ${packages.join(' ')}`)
      return undefined
    }
    log(`installing ${packages.join(' ')} to compare with`)
    const install = ['install', '-y', '-qq', '--no-install-recommends', ...packages]
    const env = { DEBIAN_FRONTEND: 'noninteractive' }
    if ((await run('apt-get', install, { env })) !== 0) {
      await run('apt-get', ['update', '-qq'], { env })
      await run('apt-get', install, { env })
    }
  }
  return version()
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await script(async () => {
    const version = await peers()
    if (version !== undefined) log(version)
    return version === undefined ? 1 : 0
  })
}
