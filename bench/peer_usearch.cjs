// SPDX-License-Identifier: MIT
// usearch in process, by its npm package (NODE_PATH leads to it), float32: the same lines in and out as peer_hnswlib. It takes its effort
// when it is made, so the built index is saved and viewed once for each effort.
// usage: node peer_usearch.cjs SET-DIRECTORY EMPTY-DIRECTORY
"use strict";
const fs = require("fs");
const readline = require("readline");
const { Index } = require("usearch");

function readVecs(path, Kind) {
	const bytes = fs.readFileSync(path), columns = bytes.readInt32LE(0), rows = bytes.length / (4 * (columns + 1));
	const all = new Kind(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
	return Array.from({ length: rows }, (_, i) => all.subarray(i * (columns + 1) + 1, (i + 1) * (columns + 1)));
}

const [set, work] = process.argv.slice(2);
const base = readVecs(`${set}/base.fvecs`, Float32Array), queries = readVecs(`${set}/query.fvecs`, Float32Array);
const truth = readVecs(`${set}/truth.ivecs`, Int32Array);
const metric = { cosine: "cos", euclidean: "l2sq", dot: "ip" }[fs.readFileSync(`${set}/metric`, "utf8").trim()];
const make = (ef) => new Index({
	metric, dimensions: base[0].length, quantization: "f32", connectivity: 16, expansion_add: 200, expansion_search: ef, multi: false,
});

const index = make(64), before = process.cpuUsage();
base.forEach((row, i) => index.add(BigInt(i), row));
const { user, system } = process.cpuUsage(before);
index.save(`${work}/usearch`);
console.log(`built ${((user + system) / 1e6).toFixed(3)} ${fs.statSync(`${work}/usearch`).size}`);

const views = new Map();
readline.createInterface({ input: process.stdin }).on("line", (line) => {
	const [ef, k] = line.split(" ").map(Number);
	if (!views.has(ef)) {
		views.set(ef, make(ef));
		views.get(ef).view(`${work}/usearch`);
	}
	const view = views.get(ef), start = process.hrtime.bigint();
	const found = queries.map((query) => view.search(query, k, 1).keys);
	const seconds = Number(process.hrtime.bigint() - start) / 1e9;
	let hits = 0;
	found.forEach((keys, q) => keys.forEach((key) => { hits += truth[q].subarray(0, k).includes(Number(key)) ? 1 : 0; }));
	console.log(`${(queries.length / seconds).toFixed(1)} ${(hits / (queries.length * k)).toFixed(5)}`);
});
