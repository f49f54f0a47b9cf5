"""The page of `agfas demo`: a picture or the webcam in, the verdict in words and pictures out.

`answer` makes what the page shows, `uploads` deletes visitors' files, and both know no web server; `page` and `server`
use Gradio, the extra `demo`.
"""
