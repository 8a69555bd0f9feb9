"""nbgrader's settings of the course; the sandbox adds its own limits (crossattn/course)."""

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "crossattn"
c.CourseDirectory.db_url = "sqlite:///gradebook.db"
c.ExecutePreprocessor.timeout = 15
c.ExecutePreprocessor.interrupt_on_timeout = True
c.ExecutePreprocessor.error_on_timeout = {
    "ename": "CellTimeoutError",
    "evalue": "the cell ran longer than allowed",
    "traceback": ["CellTimeoutError: the cell ran longer than allowed"],
}
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError()"}
c.OverwriteCells.add_missing_cells = True
c.LimitOutput.max_lines = 200
c.LimitOutput.max_traceback = 40
