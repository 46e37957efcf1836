// Compiles one job (JSON on standard input) with solc's standard JSON interface and writes
// {contract name: {contractName, abi, bytecode, linkReferences}} to job.out.
const fs = require('fs');
const path = require('path');

const job = JSON.parse(fs.readFileSync(0, 'utf8'));
const solc = require(job.solc);

function find(name) {
  for (const candidate of [name, ...job.roots.map((root) => path.join(root, name))]) {
    if (path.isAbsolute(candidate) && fs.existsSync(candidate)) {
      return { contents: fs.readFileSync(candidate, 'utf8') };
    }
  }
  return { error: `not found: ${name}` };
}

const sources = {};
for (const file of job.files) {
  const found = find(file);
  if (found.error) throw new Error(found.error);
  sources[file] = { content: found.contents };
}
const wanted = ['abi', 'evm.bytecode.object', 'evm.bytecode.linkReferences'];
const input = {
  language: 'Solidity',
  sources,
  settings: {
    optimizer: { enabled: true, runs: job.runs },
    ...(job.viaIR ? { viaIR: true } : {}),
    remappings: job.remappings,
    outputSelection: Object.fromEntries(job.files.map((file) => [file, { '*': wanted }])),
  },
};
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: find }));
const errors = (output.errors || []).filter((e) => e.severity === 'error');
if (errors.length) {
  process.stderr.write(errors.slice(0, 5).map((e) => e.formattedMessage).join('\n'));
  process.exit(1);
}
const contracts = {};
for (const file of job.files) {
  for (const [name, contract] of Object.entries(output.contracts[file] || {})) {
    contracts[name] = {
      contractName: name,
      abi: contract.abi,
      bytecode: '0x' + contract.evm.bytecode.object,
      linkReferences: contract.evm.bytecode.linkReferences,
    };
  }
}
fs.writeFileSync(job.out, JSON.stringify(contracts));
