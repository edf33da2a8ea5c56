// Who may import whom, for TypeScript and JavaScript (ARCHITECTURE.md, "Import rules").
import { readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { filesBelow } from '../lib/stamp.mjs'

const builtins = new Set(builtinModules.map((name) => `node:${name}`))

/** The packages of ours that each folder may import; nothing imports e2e, bench, examples or scripts. */
export const allowed = new Map([
  ['packages/kvm-core', []],
  ['packages/virtio', []],
  ['packages/qemu-vmm', ['kvm-core', 'virtio']],
  ['packages/libvirt-lite', []],
  ['e2e', ['kvm-core', 'virtio', 'qemu-vmm', 'libvirt-lite']],
  ['bench', ['kvm-core', 'virtio', 'qemu-vmm', 'libvirt-lite']],
  ['examples', ['kvm-core', 'virtio', 'qemu-vmm', 'libvirt-lite']],
])
const ours = new Set(['kvm-core', 'virtio', 'qemu-vmm', 'libvirt-lite'])

const importPatterns = [
  /(?:^|[;}\n])\s*(?:import|export)\s+(?:[^'";]*?\sfrom\s*)?['"]([^'"\n]+)['"]/g,
  /\bimport\s*\(\s*['"]([^'"\n]+)['"]/g,
  /\brequire\s*\(\s*['"]([^'"\n]+)['"]/g,
]

/**
 * The specifiers that a module imports, statically or dynamically.
 * @param {string} source
 */
export function importsOf(source) {
  const code = source.replaceAll(/^\s*(?:\/\/|\*|\/\*).*$/gm, '')
  return importPatterns.flatMap((pattern) =>
    [...code.matchAll(pattern)].map((match) => match[1] ?? ''),
  )
}

/**
 * @param {string} root of the repository
 * @returns {string[]} one sentence for each import that breaks a rule
 */
export function checkImports(root) {
  return [...allowed.keys()].flatMap((folder) => {
    const files = filesBelow([join(root, folder)], (path) => /\.(ts|js|mjs)$/.test(path))
    if (files.length === 0) return []
    const manifest = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'))
    return files.flatMap((file) =>
      importsOf(readFileSync(file, 'utf8')).flatMap((specifier) => {
        const problem = judge({ root, folder, manifest, file, specifier })
        return problem ? [`${relative(root, file)}: '${specifier}' ${problem}`] : []
      }),
    )
  })
}

/**
 * @typedef {object} Import
 * @property {string} root
 * @property {string} folder of the package
 * @property {Record<string, any>} manifest
 * @property {string} file
 * @property {string} specifier
 */

/** @param {Import} item */
function judge({ root, folder, manifest, file, specifier }) {
  if (specifier.startsWith('node:')) {
    return builtins.has(specifier) || specifier === 'node:test'
      ? undefined
      : 'is no module of Node.js'
  }
  if (specifier.startsWith('.')) {
    const inside = relative(join(root, folder), resolve(dirname(file), specifier))
    if (inside.startsWith('..')) return 'leaves its package'
    if (file.endsWith('.ts') && !/\.(ts|json)$/.test(specifier)) return 'has no .ts ending'
    if (isSource(root, folder, file) && !inside.startsWith('src/')) return 'leaves src'
    return undefined
  }
  const parts = specifier.split('/')
  const name = parts.slice(0, specifier.startsWith('@') ? 2 : 1).join('/')
  if (ours.has(name)) {
    // Tests may use their own package by its name, as its users do.
    const self = basename(folder) === name && !isSource(root, folder, file)
    if (!self && !allowed.get(folder)?.some((other) => other === name)) {
      return `must not be imported by ${folder}`
    }
    if (/^(src|dist|test|crates|native)$/.test(parts[1] ?? '')) return 'is no published entry point'
    if (self) return undefined
  }
  if (name in (manifest['dependencies'] ?? {})) return undefined
  if (!(name in (manifest['devDependencies'] ?? {}))) return 'is not declared in package.json'
  return isSource(root, folder, file) && folder.startsWith('packages/')
    ? 'is a development dependency only'
    : undefined
}

/** @param {string} root @param {string} folder @param {string} file */
const isSource = (root, folder, file) =>
  folder.startsWith('packages/') && relative(join(root, folder), file).startsWith('src/')
