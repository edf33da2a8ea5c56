// Debian packages, without root: own package lists when the system's are missing or old, download, unpack.
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { capture, log, run } from '../lib/run.mjs'

/** Packages of this machine's Debian, downloaded and unpacked below a folder. */
export class Apt {
  /** @type {string[]} */
  #options = []
  #folder

  /**
   * @param {string} folder
   * @param {string} [architecture] another than this machine's; its lists must be read first
   */
  constructor(folder, architecture) {
    this.#folder = folder
    const names = ['APT::Architecture', 'APT::Architectures']
    if (architecture !== undefined)
      this.#options = names.flatMap((name) => ['-o', `${name}=${architecture}`])
  }

  /** Says what this machine lacks, or undefined when it lacks nothing. */
  missing() {
    if (!existsSync('/etc/apt')) return 'this is not a Debian system'
    const tools = ['apt-get', 'apt-cache', 'dpkg-deb']
    const tool = tools.find((name) => capture(name, ['--version']) === undefined)
    return tool && `${tool} is missing`
  }

  /** Reads the package lists anew into a folder of ours, which needs no root. */
  async update() {
    const state = join(this.#folder, 'apt')
    for (const name of ['lists/partial', 'cache/archives/partial']) {
      mkdirSync(join(state, name), { recursive: true })
    }
    const places = [`Dir::State::Lists=${state}/lists`, `Dir::Cache=${state}/cache`]
    this.#options.push(...places.flatMap((option) => ['-o', option]))
    log('reading package lists')
    return (await this.#apt(['-qq', 'update'])) === 0
  }

  /**
   * The first dependency of a package whose name starts so.
   * @param {string} name @param {string} prefix
   */
  dependency(name, prefix) {
    const show = capture('apt-cache', [...this.#options, '--no-all-versions', 'show', name])
    const depends = /^Depends: (.*)$/m.exec(show ?? '')?.[1] ?? ''
    const found = depends.split(', ').find((item) => item.startsWith(prefix))
    return found?.split(' ')[0]
  }

  /**
   * Where the system has a release from, without its updates.
   * @param {string} release the codename
   */
  archive(release) {
    const format = ['--format', '$(RELEASE) $(REPO_URI)', 'Created-By: Packages']
    const lines = (capture('apt-get', ['indextargets', ...format]) ?? '').split('\n')
    return lines.find((line) => line.startsWith(`${release} `))?.slice(release.length + 1)
  }

  /**
   * Downloads and unpacks a package, and returns the folder it is in.
   * @param {string} name
   * @returns {Promise<string | undefined>} undefined when the package cannot be had
   */
  async fetch(name) {
    const target = join(this.#folder, 'packages', name)
    mkdirSync(target, { recursive: true })
    const archive = () => readdirSync(target).find((entry) => entry.endsWith('.deb'))
    if (archive() === undefined) {
      log(`downloading ${name}`)
      if ((await this.#apt(['-q', 'download', name], target)) !== 0) return undefined
    }
    const unpacked = join(target, 'root')
    const code = await run('dpkg-deb', ['-x', join(target, archive() ?? ''), unpacked])
    return code === 0 ? unpacked : undefined
  }

  /**
   * Runs apt-get. Its progress and its warnings say nothing that matters here: only its errors are shown.
   * @param {readonly string[]} args @param {string} [cwd]
   */
  async #apt(args, cwd) {
    const onLine = (/** @type {string} */ line) => line.startsWith('E:') && log(line)
    return await run('apt-get', [...this.#options, ...args], { cwd: cwd ?? this.#folder, onLine })
  }
}
