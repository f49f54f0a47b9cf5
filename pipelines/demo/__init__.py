"""The page of `agfas demo`: a picture or the webcam in, the verdict in words and pictures out.

`judge` and `words` make the answer and know no web server; `uploads` keeps no picture longer than it is judged; `page`
and `server` are Gradio's, which is the extra `demo`.
"""
