#!/usr/bin/env node
// The command must exist before the first build, because package managers link it when they install.
import '../dist/bundle/libvirt-lite.js'
