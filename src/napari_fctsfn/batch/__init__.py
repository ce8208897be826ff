"""Whole folders: a job file says what is to be done, and any number of processes do it."""

from napari_fctsfn.batch.job import Job, JobError, parse_job, read_job, schema, write_job
from napari_fctsfn.batch.run import Plan, Summary, execute, finish, plan
from napari_fctsfn.batch.task import Entry, Task, lacking, run_task

__all__ = [
    "Entry",
    "Job",
    "JobError",
    "Plan",
    "Summary",
    "Task",
    "execute",
    "finish",
    "lacking",
    "parse_job",
    "plan",
    "read_job",
    "run_task",
    "schema",
    "write_job",
]
