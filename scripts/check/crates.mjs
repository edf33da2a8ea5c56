// Who may depend on whom, for the Rust crates, and where `unsafe` is allowed (ARCHITECTURE.md, "Import rules").
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { basename, join, relative } from 'node:path'
import { filesBelow } from '../lib/stamp.mjs'

/** Layers from the bottom up: a crate may depend on the crates of the layers below its own. */
const layers = [
  ['abi'],
  ['memory'],
  ['decode', 'irqchip'],
  ['cpu'],
  ['engine-soft', 'engine-host'],
  ['vm'],
  ['binding'],
]
const unsafeCrates = new Set([
  'memory',
  'engine-soft',
  'engine-host',
  'vm',
  'binding',
  'ioring',
  'pairread',
])

/**
 * @param {string} root of the repository
 * @returns {string[]} one sentence for each rule that a crate breaks
 */
export function checkCrates(root) {
  return [...checkNative(root), ...checkCore(root)]
}

/**
 * The addon of qemu-vmm stands alone: it must not depend on crates of kvm-core.
 * @param {string} root
 */
function checkNative(root) {
  const manifest = join(root, 'packages/qemu-vmm/native/Cargo.toml')
  if (!existsSync(manifest)) return []
  const addon = dependenciesOf(readFileSync(manifest, 'utf8')).flatMap((name) =>
    name.startsWith('kvm-') ? [`the addon of qemu-vmm must not depend on ${name}`] : [],
  )
  const parts = ['ioring', 'pairread', 'usernet', 'vring'].flatMap((name) => checkPart(root, name))
  return [...addon, ...parts]
}

/** @param {string} root @param {string} name of a crate of the addon's */
function checkPart(root, name) {
  const folder = join(root, 'packages/qemu-vmm/native', name)
  if (!existsSync(folder)) return []
  const names = dependenciesOf(readFileSync(join(folder, 'Cargo.toml'), 'utf8'))
  const strange = names.filter((other) => /^(napi|kvm)(-|$)/.test(other))
  const problems = strange.map((other) => `crate ${name} must not depend on ${other}`)
  return [...problems, ...checkUnsafe(root, folder)]
}

/** @param {string} root */
function checkCore(root) {
  const folder = join(root, 'packages/kvm-core/crates')
  if (!existsSync(folder)) return []
  const crates = readdirSync(folder).filter((name) => existsSync(join(folder, name, 'Cargo.toml')))
  return crates.flatMap((name) => [
    ...checkArrows(name, readFileSync(join(folder, name, 'Cargo.toml'), 'utf8')),
    ...checkUnsafe(root, join(folder, name)),
  ])
}

/**
 * The names in all dependency tables of a manifest, whichever way they are written.
 * @param {string} manifest
 */
export function dependenciesOf(manifest) {
  /** @type {Set<string>} */
  const names = new Set()
  let section = ''
  for (const line of manifest.split('\n')) {
    section = /^\s*\[([^\]]+)\]/.exec(line)?.[1] ?? section
    const own = /(?:^|\.)(?:dev-|build-)?dependencies\.([\w-]+)$/.exec(section)?.[1]
    const key = /^\s*([\w-]+)(?:\.[\w-]+)*\s*=/.exec(line)?.[1]
    const renamed = /package\s*=\s*"([\w-]+)"/.exec(line)?.[1]
    if (own) names.add(own)
    else if (key && /(?:^|\.)(?:dev-|build-)?dependencies$/.test(section)) names.add(renamed ?? key)
  }
  return [...names]
}

/** @param {string} crate @param {string} manifest */
function checkArrows(crate, manifest) {
  const layer = layers.findIndex((names) => names.includes(crate))
  if (layer < 0) return [`crate ${crate} has no place in the layers of scripts/check/crates.mjs`]
  const below = new Set(layers.slice(0, layer).flat())
  return dependenciesOf(manifest).flatMap((name) => {
    const other = /^kvm-(.+)$/.exec(name)?.[1]
    if (other !== undefined && layers.flat().includes(other) && !below.has(other)) {
      return [`crate ${crate} must not depend on ${other}`]
    }
    if (/^napi(-|$)/.test(name) && crate !== 'binding') {
      return [`crate ${crate} must not know Node-API (${name}): only binding does`]
    }
    return []
  })
}

/** @param {string} root @param {string} folder of a crate */
function checkUnsafe(root, folder) {
  const crate = basename(folder)
  if (unsafeCrates.has(crate)) return []
  const library = join(folder, 'src/lib.rs')
  const text = existsSync(library) ? readFileSync(library, 'utf8') : ''
  const problems = text.includes('#![forbid(unsafe_code)]')
    ? []
    : [`${relative(root, library)} lacks #![forbid(unsafe_code)]`]
  const files = filesBelow([folder], (path) => path.endsWith('.rs'))
  for (const file of files) {
    const code = readFileSync(file, 'utf8').replaceAll(/\/\/.*$/gm, '')
    if (/\bunsafe\s*(?:\{|fn\b|impl\b|extern\b|trait\b)/.test(code)) {
      problems.push(`${relative(root, file)}: unsafe is not allowed in crate ${crate}`)
    }
  }
  return problems
}
