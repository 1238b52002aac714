/* SPDX-License-Identifier: MIT */
/* fit.c - a quantizer for the vectors of an index, fitted to a sample of those that are stored and those that are coming. */
#include <stdlib.h>

#include "keeper.h"

#define SAMPLE_VECTORS_MAX 5000u
#define SAMPLE_BYTES_MAX   (8u << 20)

struct sample {
	uint32_t dim;
	size_t n, most;
	float *rows;
};

static int sample_init(struct sample *sample, uint32_t dim, uint64_t of, struct vf_err *err)
{
	uint64_t most = SAMPLE_BYTES_MAX / (dim * sizeof(float));

	if (most > SAMPLE_VECTORS_MAX)
		most = SAMPLE_VECTORS_MAX;
	if (most > of)
		most = of;
	*sample = (struct sample){ .dim = dim, .most = most, .rows = malloc((most + 1) * dim * sizeof(float)) };
	return sample->rows ? 0 : vf_oom(err);
}

static void sample_add(struct sample *sample, const void *vector)
{
	if (sample->n < sample->most)
		memcpy(sample->rows + sample->n++ * sample->dim, vector, sample->dim * sizeof(float));
}

/* Every stride-th vector that the slot table names. */
static int sample_stored(struct sample *sample, struct vf_txn *txn, uint64_t stride, struct vf_err *err)
{
	struct vf_span key, value, vector;
	struct vf_scan *scan = NULL;
	int rc = vf_scan_open_u64(txn, VF_T_SLOTS, 0, &scan, err);

	for (uint64_t i = 0; rc == 0 && (rc = vf_scan_step(scan, &key, &value, err)) == 0; i++)
		if (i % stride == 0 && value.len == 8 &&
		    (rc = vf_vector_of_serial(txn, vf_load_u64(value.data), sample->dim, &vector, err)) == 0)
			sample_add(sample, vector.data);
	vf_scan_close(&scan);
	return rc < 0 ? rc : 0;
}

static void sample_coming(struct sample *sample, const struct vf_coming *coming, uint64_t stride)
{
	for (uint64_t i = 0; i < coming->n; i += stride) {
		const float *vector = coming->vector(coming->ctx, i);
		if (vector)
			sample_add(sample, vector);
	}
}

/* Bytes, or floats where bytes do not tell near from far; their step says then that this was tried. */
static int fit_bytes(struct vf_quant *quant, const struct vf_config *config, const struct sample *sample, struct vf_err *err)
{
	bool tells = true;
	int rc = vf_quant_fit(quant, VF_CODE_U8, config->metric, config->dim, sample->rows, sample->n, err);

	if (rc)
		return rc;
	rc = vf_quant_try(quant, config->metric, sample->rows, sample->n, &tells, err);
	float step = quant->step;
	if (rc || !tells)
		vf_quant_free(quant);
	if (rc == 0 && !tells && (rc = vf_quant_fit(quant, VF_CODE_F32, config->metric, config->dim, NULL, 0, err)) == 0)
		quant->step = step;
	return rc;
}

int vf_index_fit(struct vf_quant *quant, enum vf_code code, const struct vf_config *config, struct vf_txn *txn, uint64_t stored,
                 const struct vf_coming *coming, struct vf_err *err)
{
	struct sample sample;
	int rc;

	if (code == VF_CODE_F32)
		return vf_quant_fit(quant, code, config->metric, config->dim, NULL, 0, err);
	if ((rc = sample_init(&sample, config->dim, stored + coming->n, err)))
		return rc;
	uint64_t stride = sample.most ? (stored + coming->n + sample.most - 1) / sample.most : 1;
	if ((rc = sample_stored(&sample, txn, stride, err)) == 0) {
		sample_coming(&sample, coming, stride);
		rc = fit_bytes(quant, config, &sample, err);
	}
	free(sample.rows);
	return rc;
}

