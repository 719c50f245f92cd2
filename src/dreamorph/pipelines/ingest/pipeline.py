"""The ingest step."""

from kedro.pipeline import Pipeline, node

from dreamorph.pipelines.ingest import nodes


def create_pipeline() -> Pipeline:
    """Files -> manifest, quarantine, split and the preprocessed cohort."""
    return Pipeline(
        [
            node(
                nodes.simulate_patients,
                ["params:cohort", "params:simulation", "simulated_before"],
                "simulated_patients",
                name="simulate_patients_where_none_are_given",
            ),
            node(
                nodes.scan_files,
                ["params:cohort", "simulated_patients", "origin_before"],
                ["files", "case_key"],
                name="scan_files",
            ),
            node(
                nodes.validate_cases,
                ["files", "params:cohort"],
                ["validation", "quarantine"],
                name="validate_cases",
            ),
            node(
                nodes.split_cases,
                ["validation", "params:split", "params:tuning"],
                ["case_table", "split", "cohort_facts"],
                name="split_cases",
            ),
            node(
                nodes.preprocess_cases,
                ["case_table", "cohort_facts", "params:cohort"],
                ["cohort", "cohort_summary"],
                name="preprocess_cases",
            ),
            node(
                nodes.note_origin,
                ["params:cohort", "cohort_summary"],
                "origin",
                name="note_origin",
            ),
        ]
    )
